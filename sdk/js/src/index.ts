export { Switchboard, type ClientEvents, type Options, type State, type Token } from "./client.js";
export {
  Channel,
  type ChannelEvents,
  type HistoryOptions,
  type MembersOptions,
  type PublishOptions,
  type SubscribeOptions,
  type Subscription,
} from "./channel.js";
export { SwitchboardError, type ClientCode } from "./errors.js";
export type { ErrorCode } from "./codes.js";
export type {
  Gap,
  History,
  Member,
  Members,
  Message,
  Presence,
  PresenceWish,
  Published,
  Reset,
  Subscribed,
} from "./protocol.js";
export type { TransportName } from "./transport.js";

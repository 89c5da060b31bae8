/** The server answered the upgrade request with another HTTP status than 101. */
export class Refused extends Error {
  constructor(status) {
    super(`refused with HTTP status ${status}`);
    this.status = status;
  }
}

// A component that is replaced while the page runs.
import { useState } from 'react';
import { useChannel } from 'switchboard-client/react';

export function Hot() {
  const [words, setWords] = useState('');
  const { subscribed } = useChannel('hot', ({ data }) => setWords((known) => known + data));
  return <output id="hot" data-subscribed={subscribed}>{`first: ${words}`}</output>;
}

// The page around it.
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Switchboard } from 'switchboard-client';
import { SwitchboardProvider } from 'switchboard-client/react';
import { Hot } from './hot.jsx';

const client = new Switchboard(new URLSearchParams(location.search).get('server'));
globalThis.opened = 0;
client.on('state', ({ status }) => {
  if (status === 'open') globalThis.opened++;
});
const root = createRoot(document.getElementById('root'));
const render = (Component) =>
  root.render(
    <StrictMode>
      <SwitchboardProvider client={client}>
        <Component />
      </SwitchboardProvider>
    </StrictMode>,
  );
render(Hot);
import.meta.hot.accept('./hot.jsx', (module) => render(module.Hot));

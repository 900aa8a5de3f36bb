// A small client on the TypeScript SDK, for recording: node ts-sdk.mjs PACKAGE.
// It prints the authorization URL, waits for the answer, lists the tools, and
// calls one that reads and one that writes.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(process.env.CLIENTS + '/');
const v1 = process.argv[2] !== '@modelcontextprotocol/client';
const { Client } = require(v1 ? process.argv[2] + '/client/index.js' : process.argv[2]);
const { StreamableHTTPClientTransport } = require(v1 ? process.argv[2] + '/client/streamableHttp.js' : process.argv[2]);

const redirectUrl = `http://localhost:${process.env.CALLBACK_PORT}/callback`;
const kept = {};
const provider = {
  redirectUrl,
  clientMetadata: { client_name: 'Desk', redirect_uris: [redirectUrl], grant_types: ['authorization_code', 'refresh_token'], token_endpoint_auth_method: 'none' },
  state: () => 'desk-' + Math.random().toString(36).slice(2),
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens; },
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  redirectToAuthorization: (url) => console.log(String(url)),
};
const listener = createServer().listen(process.env.CALLBACK_PORT, 'localhost');

/** Does something until the person has allowed it. */
async function allowed(what) {
  for (let tries = 0; tries < 3; tries++) {
    const transport = new StreamableHTTPClientTransport(new URL(process.env.MCP_URL), { authProvider: provider });
    const client = new Client({ name: 'desk', version: '1' });
    const answer = once(listener, 'request');
    try {
      await client.connect(transport);
      return await what(client);
    } catch (e) {
      console.log('refused:', e.name, e.message);
      if (!/Unauthorized|insufficient_scope|scope/i.test(e.name + e.message)) throw e;
    }
    const [request, response] = await answer;
    response.end('Connected.');
    const query = new URL(request.url, redirectUrl).searchParams;
    await transport.finishAuth(v1 ? query.get('code') : query);
  }
}

try {
  console.log((await allowed((client) => client.listTools())).tools.length, 'tools');
  console.log(await allowed((client) => client.callTool({ name: 'listTodos', arguments: {} })));
  if (process.argv[3]) kept.tokens.access_token = 'ended'; // and the next call has to refresh
  console.log(await allowed((client) => client.callTool({ name: 'createTodo', arguments: { todoText: 'Water the lemon tree' } })));
} finally {
  process.exit();
}

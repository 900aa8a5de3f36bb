// A connected app as an MCP client is one: it registers itself, listens on this
// computer, asks with PKCE and redeems what arrives. It checks nothing; the
// tests look at what it got.
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { issuer, office, okr, todo } from './server.ts';

const random = () => randomBytes(32).toString('base64url');

/** What an endpoint answered. */
export type Answer = { status: number; body: Record<string, any> };

async function post(address: string, fields: Record<string, string>): Promise<Answer> {
  const response = await fetch(address, { method: 'POST', body: new URLSearchParams(fields) });
  return { status: response.status, body: await response.json() };
}

/** Where an app wants to be let in, and what it asks for. */
type Place = () => { issuer: string; resource: string; scope: string };

const atTodo: Place = () => ({ issuer: issuer(), resource: todo() + '/mcp', scope: 'read:todos write:todos' });
export const atOKR: Place = () => ({
  issuer: office(),
  resource: okr() + '/mcp',
  scope: 'read:okrs report_kr_status manage:krs manage:objectives',
});

const registrations = new Map<string, Promise<string>>();

/** Registers an app and returns its client_id; the same words, the same app. */
async function register(place: Place, metadata: object): Promise<string> {
  const body = JSON.stringify(metadata);
  const key = place().issuer + body;
  if (!registrations.has(key)) {
    const registered = fetch(place().issuer + '/v1/oauth2/register', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body,
    });
    registrations.set(key, registered.then(async (r) => {
      const answer = await r.json();
      if (r.status !== 201) throw new Error(`not registered: ${JSON.stringify(answer)}`);
      return answer.client_id;
    }));
  }
  return registrations.get(key)!;
}

export class App {
  static readonly name = 'Notebook agent';

  readonly verifier = random();
  readonly state = random();

  private constructor(
    readonly place: Place,
    readonly clientID: string,
    readonly redirectURI: string,
    /** The parameters of the next answer, for an app that listens. */
    readonly answer: Promise<URLSearchParams>,
    readonly close: () => Promise<void>,
  ) {}

  /**
   * Listens on a free port of this computer and registers a loopback redirect
   * URI. The status 204 keeps the browser on the page that it comes from.
   */
  static async start(metadata: object = {}, status = 200, place = atTodo): Promise<App> {
    let arrived: (answer: URLSearchParams) => void;
    const answer = new Promise<URLSearchParams>((done) => (arrived = done));
    const server = createServer((request, response) => {
      const url = new URL(request.url!, 'http://127.0.0.1');
      if (url.pathname === '/callback') arrived(url.searchParams);
      response.writeHead(url.pathname === '/callback' ? status : 204, { 'Content-Type': 'text/html', Connection: 'close' });
      response.end(status === 204 ? undefined : '<!doctype html><title>Connected</title><h1>Connected</h1>');
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as AddressInfo;
    const clientID = await register(place, {
      client_name: App.name,
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none',
      ...metadata,
    });
    return new App(place, clientID, `http://127.0.0.1:${port}/callback`, answer, async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    });
  }

  /** Registers an app that does not listen: its answers go to an own scheme. */
  static async withScheme(redirectURI: string): Promise<App> {
    const clientID = await register(atTodo, {
      client_name: App.name,
      redirect_uris: [redirectURI],
      token_endpoint_auth_method: 'none',
    });
    return App.known(clientID, redirectURI);
  }

  /** An app that is registered already. */
  static known(clientID: string, redirectURI: string): App {
    return new App(atTodo, clientID, redirectURI, new Promise(() => {}), async () => {});
  }

  /** An authorization request; parameters go over what is usual. */
  request(parameters: Record<string, string> = {}): string {
    return this.place().issuer + '/oauth/authorize?' + new URLSearchParams({
      response_type: 'code',
      client_id: this.clientID,
      redirect_uri: this.redirectURI,
      scope: this.place().scope,
      resource: this.place().resource,
      state: this.state,
      code_challenge: createHash('sha256').update(this.verifier).digest('base64url'),
      code_challenge_method: 'S256',
      ...parameters,
    });
  }

  redeem(code: string | null): Promise<Answer> {
    return post(this.place().issuer + '/v1/oauth2/token', {
      grant_type: 'authorization_code',
      client_id: this.clientID,
      redirect_uri: this.redirectURI,
      code_verifier: this.verifier,
      code: code ?? '',
    });
  }

  refresh(token: string): Promise<Answer> {
    return post(this.place().issuer + '/v1/oauth2/token', {
      grant_type: 'refresh_token',
      client_id: this.clientID,
      refresh_token: token,
    });
  }
}

/** Calls a tool of an MCP server; the status of the HTTP answer. */
export async function call(tool: string, args: object, token: string, at = todo() + '/mcp'): Promise<{ status: number; text: string }> {
  const response = await fetch(at, {
    method: 'POST',
    headers: {
      Authorization: 'Bearer ' + token,
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
      'MCP-Protocol-Version': '2025-06-18',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: tool, arguments: args } }),
  });
  return { status: response.status, text: await response.text() };
}

// A small web client on openid-client, for recording: it registers itself for a
// secret, gets tokens, refreshes and revokes. It asks for no ID token, whose
// issuer would be the server's own address and not the recorder's.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const client = await import(createRequire(process.env.CLIENTS + '/').resolve('openid-client'));
const redirectUrl = `http://localhost:${process.env.CALLBACK_PORT}/callback`;
const registered = await client.dynamicClientRegistration(new URL(process.env.ISSUER),
  { client_name: 'Desk', redirect_uris: [redirectUrl], grant_types: ['authorization_code', 'refresh_token'], token_endpoint_auth_method: 'client_secret_basic' },
  undefined, { execute: [client.allowInsecureRequests] });
// It would send the secret in the body, whatever it registered.
const { client_id: id, client_secret: secret } = registered.clientMetadata();
const config = new client.Configuration(registered.serverMetadata(), id, secret, client.ClientSecretBasic(secret));
client.allowInsecureRequests(config);

const verifier = client.randomPKCECodeVerifier();
const state = client.randomState();
const listener = createServer().listen(process.env.CALLBACK_PORT, 'localhost');
const answer = once(listener, 'request');
console.log(client.buildAuthorizationUrl(config, {
  redirect_uri: redirectUrl, scope: 'read:todos', state, prompt: 'consent',
  code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
}).href);
const [request, response] = await answer;
response.end('Connected.');
try {
  const tokens = await client.authorizationCodeGrant(config, new URL(request.url, redirectUrl),
    { pkceCodeVerifier: verifier, expectedState: state });
  const again = await client.refreshTokenGrant(config, tokens.refresh_token);
  await client.tokenRevocation(config, again.refresh_token);
  console.log('done');
} catch (e) {
  console.log(e);
} finally {
  process.exit();
}

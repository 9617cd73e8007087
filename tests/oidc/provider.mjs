// An OpenID provider for tests/oidc.rs: node provider.mjs MODULES PORT SITE
// It is npm's oidc-provider with its own pages for development: any user name and password will do.
// GET /test/grants tells what was granted, GET /test/tokens?seconds=N how long access tokens last from now on.
import crypto from 'node:crypto';
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, port, site] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(path.join(modules, 'oidc-provider/lib/index.js')).href);
const key = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
let seconds = 3600;

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'site',
    client_secret: 'the secret of the site & more',
    redirect_uris: [`${site}/oauth2/callback`],
    post_logout_redirect_uris: [`${site}/public`],
    grant_types: ['authorization_code', 'refresh_token'],
  }],
  claims: { openid: ['sub'], email: ['email'] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.com` }) }),
  cookies: { keys: ['only for tests'] },
  jwks: { keys: [{ ...key, kid: 'first', use: 'sig', alg: 'RS256' }] },
  pkce: { required: () => true, methods: ['S256'] },
  issueRefreshToken: () => true,
  rotateRefreshToken: () => true,
  ttl: { AccessToken: () => seconds, IdToken: 600, RefreshToken: 3600, Grant: 3600, Interaction: 600, Session: 3600 },
});

const grants = {};
const count = name => { grants[name] = (grants[name] ?? 0) + 1; };
provider.on('grant.success', ctx => count(ctx.oidc.params.grant_type));
provider.on('grant.error', (_, error) => count(`error ${error.error}`));

const serve = provider.callback();
http.createServer((request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  if (url.pathname === '/test/grants') return response.end(JSON.stringify(grants));
  if (url.pathname === '/test/tokens') {
    seconds = Number(url.searchParams.get('seconds'));
    return response.end('ok');
  }
  serve(request, response);
}).listen(Number(port), '127.0.0.1');

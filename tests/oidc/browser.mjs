// Headless Chromium as a user who logs in: node browser.mjs CHROMIUM PROFILE SITE PROVIDER SCENARIO
// It is driven over a pipe by the DevTools protocol. What it saw is printed as one object of JSON.
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import crypto from 'node:crypto';

const [program, profile, site, provider, scenario] = process.argv.slice(2);
const PATIENCE = 30_000;
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

const chromium = spawn(program, [
  `--user-data-dir=${profile}`, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run', '--no-proxy-server',
  '--ignore-certificate-errors', '--host-resolver-rules=MAP * 127.0.0.1', '--remote-debugging-pipe', 'about:blank',
], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], env: { ...process.env, HOME: profile } });

let last = 0, buffered = '';
const waiting = new Map();
chromium.stdio[4].on('data', piece => {
  buffered += piece;
  const messages = buffered.split('\0');
  buffered = messages.pop();
  for (const message of messages.map(text => JSON.parse(text))) {
    const { resolve, reject } = waiting.get(message.id) ?? {};
    waiting.delete(message.id);
    if (message.error) reject?.(new Error(message.error.message)); else resolve?.(message.result);
  }
});

function send(method, params = {}, sessionId) {
  const id = ++last;
  chromium.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + '\0');
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

// One tab.
class Tab {
  static async open(browserContextId) {
    const { targetId } = await send('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
    const tab = new Tab();
    tab.send = (method, params) => send(method, params, sessionId);
    await tab.send('Page.enable');
    return tab;
  }

  async run(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  // Waits until an expression is true of a page that has been loaded.
  async until(what, expression) {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      // A page that is just being left cannot be asked.
      const value = await this.run(`document.readyState === 'complete' && (${expression})`).catch(() => false);
      if (value) return value;
      if (Date.now() > deadline) {
        const seen = await this.run('location.href + "\\n" + document.documentElement.innerText').catch(String);
        throw new Error(`not in time: ${what}; the page is ${seen}`);
      }
      await sleep(20);
    }
  }

  async goto(url) {
    await this.send('Page.navigate', { url });
  }

  at(url) {
    return this.until(`at ${url}`, `location.href === ${JSON.stringify(url)}`);
  }

  text() {
    return this.run('document.body.innerText');
  }

  // The provider's pages.
  async login(name) {
    await this.until('the login', `document.querySelector('input[name=login]') !== null`);
    await this.run(`document.querySelector('input[name=login]').value = ${JSON.stringify(name)};
      document.querySelector('input[name=password]').value = 'any'; document.querySelector('form').submit()`);
  }

  async consent() {
    await this.until('the consent', `document.querySelector('input[name=prompt][value=consent]') !== null`);
    await this.run(`document.querySelector('form').submit()`);
  }

  async cancel() {
    await this.until('the login', `document.querySelector('input[name=login]') !== null`);
    await this.run(`[...document.querySelectorAll('a')].find(a => a.innerText.includes('Cancel')).click()`);
  }

  async cookies(name) {
    const { cookies } = await this.send('Network.getCookies', { urls: [site + '/'] });
    return cookies.filter(cookie => cookie.name.includes(name));
  }
}

const field = (head, name) => head.split('\n').map(line => line.trim()).find(line => line.toLowerCase().startsWith(name + ':'))?.slice(name.length + 1).trim();
const grants = async () => (await fetch(`${provider}/test/grants`)).json();
const tokens = seconds => fetch(`${provider}/test/tokens?seconds=${seconds}`);
const context = async () => (await send('Target.createBrowserContext')).browserContextId;

// Who a target was told that it is; it verifies the proof with the keys that the site shows.
async function proven(tab, head) {
  const [header, payload, signature] = field(head, 'x-amzn-oidc-data').split('.');
  const json = text => JSON.parse(Buffer.from(text, 'base64url'));
  const { keys } = JSON.parse(await tab.run(`fetch('/.well-known/ringgate/jwks').then(r => r.text())`));
  const key = crypto.createPublicKey({ key: keys.find(key => key.kid === json(header).kid), format: 'jwk' });
  const fits = crypto.verify('sha256', `${header}.${payload}`, { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'));
  assert(fits && json(header).alg === 'ES256');
  return json(payload);
}

const scenarios = {
  // Login, session, refresh, logout; then what must not work.
  async all() {
    const report = {}, one = await context(), tab = await Tab.open(one);
    await tokens(4);
    await tab.goto(`${site}/page?x=1`);
    await tab.login('ann');
    await tab.consent();
    await tab.at(`${site}/page?x=1`);
    const head = await tab.text();
    report.first = head.split('\n')[0].trim();
    report.identity = field(head, 'x-amzn-oidc-identity');
    const claims = await proven(tab, head);
    report.claims = [claims.sub, claims.email, claims.iss === provider];
    report.seen = await tab.run('document.cookie');
    report.cookies = (await tab.cookies('rg-')).map(c => [c.name, c.secure, c.httpOnly, c.sameSite, c.path]);

    // A program of the page's own.
    const ask = () => tab.run(`fetch('/data').then(r => r.text())`);
    const before = field(await ask(), 'x-amzn-oidc-accesstoken');
    const refreshes = async () => (await grants()).refresh_token ?? 0;
    const earlier = await refreshes();
    await sleep(4500);
    await tokens(3600);
    const heads = JSON.parse(await tab.run(`Promise.all([...Array(8).keys()].map(n => fetch('/data?' + n).then(r => r.text()))).then(JSON.stringify)`));
    const after = new Set(heads.map(head => field(head, 'x-amzn-oidc-accesstoken')));
    report.refreshed = [after.size, after.has(before), await refreshes() - earlier];
    await ask();
    report.again = await refreshes() - earlier;

    // Another site's link does not log out; the own button does, here and at the provider.
    await tab.goto(`${site.replace('a.test', 'b.test')}/public`);
    await tab.until('the other site', `document.body.innerText === 'bye'`);
    await tab.run(`location.href = ${JSON.stringify(site + '/oauth2/logout')}`);
    await tab.at(`${site}/oauth2/logout`);
    report.foreign = (await tab.text()).includes('logout_refused');
    await tab.goto(`${site}/page`);
    await tab.until('still logged in', `location.pathname === '/page' && document.body.innerText.includes('x-amzn-oidc-identity: ann')`);
    await tab.run(`document.body.innerHTML = '<form method=post action=/oauth2/logout></form>'; document.forms[0].submit()`);
    await tab.until('the provider asks', `location.href.startsWith(${JSON.stringify(provider)}) && document.querySelector('button[name=logout]') !== null`);
    await tab.run(`document.querySelector('button[name=logout]').click()`);
    await tab.at(`${site}/public`);
    report.left = (await tab.cookies('rg-')).map(cookie => cookie.name);
    report.program = await tab.run(`fetch('/data').then(r => r.status + ' ' + r.headers.get('x-ringgate-reason'))`);
    await tab.goto(`${site}/page`);
    await tab.until('the login', `document.querySelector('input[name=login]') !== null`);

    // A user who does not want to.
    await tab.cancel();
    await tab.until('the refusal', `location.href.startsWith(${JSON.stringify(site + '/oauth2/callback')})`);
    report.denied = (await tab.text()).includes('login_failed');
    report.over = (await tab.cookies('rg-')).map(cookie => cookie.name);

    // Two tabs at the same time, and the way back once more.
    const two = await context(), left = await Tab.open(two), right = await Tab.open(two);
    await left.goto(`${site}/left`);
    await left.until('the login', `document.querySelector('input[name=login]') !== null`);
    await right.goto(`${site}/right#part`);
    await right.login('bob');
    await right.consent();
    await right.until('at the right page', `location.pathname === '/right'`);
    await left.login('bob');
    // The provider may know the user's consent already.
    await left.until('on', `location.pathname === '/left' || document.querySelector('input[name=prompt][value=consent]') !== null`);
    if (await left.run(`location.pathname !== '/left'`)) await left.consent();
    await left.at(`${site}/left`);
    report.tabs = [field(await left.text(), 'x-amzn-oidc-identity'), field(await right.text(), 'x-amzn-oidc-identity')];
    report.logins = (await left.cookies('~login~')).length;
    return report;
  },

  // A login alone; the session's cookies go on by other means.
  async cookies() {
    const tab = await Tab.open(await context());
    await tab.goto(`${site}/page`);
    await tab.login('ann');
    await tab.consent();
    await tab.at(`${site}/page`);
    const cookies = await tab.cookies('rg-');
    // Without TLS browsers do not say where a request comes from, but for the origin of a form.
    return { cookies: cookies.map(c => `${c.name}=${c.value}`), secure: cookies.some(c => c.secure) };
  },
};

const give = async () => {
  try {
    return await scenarios[scenario]();
  } catch (error) {
    return { error: String(error.stack ?? error) };
  }
};
console.log(JSON.stringify(await give()));
chromium.kill('SIGKILL');
process.exit(0);

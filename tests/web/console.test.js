// The live console, and pages that use the JavaScript client, in a browser.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Pattern } from '../../clients/js/kps.js';
import { launch, publish, run, serve, serveExamples, urlOf } from './bus.js';
import * as pages from './pages.js';
import { UNREACHABLE, cutAt, hasGone, isConnected, isShown, tokenFile } from './pages.js';

describe('in a browser', { skip: pages.missing }, () => {
  let browser;
  let server;
  let examples;
  before(async () => {
    examples = await serveExamples();
    // One after the other, so that both are known if one fails.
    const options = ['--origin', examples.origin, '--max-id', '6000', '--max-topic', '6000'];
    server = await serve({ options });
    browser = await launch();
  });
  after(() => Promise.all([browser?.close(), server?.kill(), examples?.close()]));

  const browse = (t, options) => pages.browse(t, browser, options);
  const openConsole = (t, options, hub = server) => pages.openConsole(t, browser, hub, options);
  const connect = (t, options, hub = server) => pages.connect(t, hub, options);

  async function watch(page, topic) {
    await page.getByLabel('Topic to watch').fill(topic);
    await page.getByLabel('Topic to watch').press('Enter');
    await page.locator('#watched li').first().waitFor();
    await page.waitForFunction(() => document.body.dataset.state === 'connected');
  }

  /** Publish until it is seen: a subscription may not be in force yet. */
  async function publishUntilShown(page, client, topic, data, shown = data) {
    const seen = isShown(page, '#messages li', shown);
    let isSeen = false;
    seen.then(() => { isSeen = true; }, () => { isSeen = true; });
    while (!isSeen) {
      if (client.connected) await client.publishWithReceipt(topic, data).catch(() => {});
      await page.evaluate(() => new Promise(requestAnimationFrame));
    }
    await seen;
  }

  test('two tabs chat', async (t) => {
    const context = await browse(t);
    const [alice, bob] = await Promise.all(['alice', 'bob'].map(async (id) => {
      const page = await context.newPage();
      await page.goto(`${examples.origin}/examples/chat.html?bus=${new URL(server.page).host}#${id}`);
      await isShown(page, '#state', `connected as ${id}`);
      return page;
    }));
    await alice.getByLabel('Message').fill('hello');
    await alice.keyboard.press('Enter');
    await isShown(bob, '#lines li', 'alice: hello');
    await isShown(alice, '#state', 'seen by bob');
    await bob.getByLabel('Message').fill('<b>hello</b> yourself');
    await bob.keyboard.press('Enter');
    await isShown(alice, '#lines li', 'bob: <b>hello</b> yourself');
  });

  test('what is entered in the chat before the bus is there stays in its page', async (t) => {
    const page = await (await browse(t)).newPage();
    await page.routeWebSocket('**/ws/bus', () => {}); // a bus that does not answer
    await page.goto(`${examples.origin}/examples/chat.html?bus=${new URL(server.page).host}`);
    await page.getByLabel('Message').fill('too early');
    await page.keyboard.press('Enter');
    await isShown(page, '#state', 'not sent: not connected');
    assert.equal(await page.getByLabel('Message').inputValue(), 'too early');
  });

  test('a page of another origin learns what to do, and nothing else', async (t) => {
    const closed = await serve();
    t.after(() => closed.kill());
    const refused = new RegExp(`${UNREACHABLE.source}|status of 403|server response: 403|CORS|net::`);
    const page = await (await browse(t, { allowed: refused })).newPage();
    const warnings = [];
    page.on('console', (message) => message.type() === 'warning' && warnings.push(message.text()));
    await page.goto(`${examples.origin}/examples/chat.html?bus=${new URL(server.page).host}#alice`);
    const told = await page.evaluate(async (bus) => {
      const { Client } = await import(`${bus}kps.js`);
      const { name, status, message } = await Client.connect(bus).catch((error) => error);
      const read = (path) => fetch(bus + path).then((response) => response.status, () => 'unreadable');
      return { name, status, message, others: await Promise.all(['', 'healthz', 'console.js'].map(read)) };
    }, closed.page);
    assert.deepEqual([told.name, told.status], ['ConnectFailed', 403]);
    const advice = `pages of ${examples.origin} may not connect: start the server with --origin ${examples.origin}`;
    assert.ok(told.message.includes(advice), told.message);
    assert.equal(warnings.filter((text) => text.includes(advice)).length, 1);
    assert.deepEqual(told.others, Array(3).fill('unreadable'));
  });

  test('orders of a Flask view are shown as they come', async (t) => {
    const bus = await serve({ options: ['--origin', '*'] });
    t.after(() => bus.kill());
    const setUp = `import os, sys; os.environ['KPS_ADDRESS'] = '${new URL(bus.url).host}'; sys.path.insert(0, 'examples')`;
    const flask = run('-c', `${setUp}; from flask_view import app; app.run(port=0)`);
    t.after(() => { flask.kill(); return flask.ended; });
    const url = await urlOf(flask);
    const context = await browse(t, { allowed: /status of 404/ }); // it has no favicon.ico
    const [one, other] = await Promise.all([1, 2].map(async () => {
      const page = await context.newPage();
      await page.goto(url);
      await page.waitForFunction(() => document.querySelector('output').value === 'live');
      return page;
    }));
    await one.getByPlaceholder('What do you want?').fill('<b>tea</b>');
    await one.keyboard.press('Enter');
    await Promise.all([one, other].map((page) => isShown(page, 'li', '<b>tea</b>')));
    await one.waitForFunction(() => document.querySelector('output').value === 'ordered');
  });

  test('sensors are plotted', async (t) => {
    const sensors = run('examples/sensors.py', new URL(server.url).host);
    t.after(() => { sensors.kill(); return sensors.ended; });
    const page = await (await browse(t)).newPage();
    await page.goto(`${examples.origin}/examples/sensors.html?bus=${new URL(server.page).host}`);
    await isShown(page, '#latest li', /roof: \d+\.\d\d °C/);
    await page.waitForFunction(() => {
      const canvas = document.querySelector('canvas');
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      return copy.getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
    });
  });

  test('two tabs see each other in a room, also when its server has restarted', async (t) => {
    const options = ['--origin', examples.origin];
    let hub = await serve({ options });
    t.after(() => hub.kill());
    const context = await browse(t, { allowed: new RegExp(`${UNREACHABLE.source}|^ConnectFailed`) });
    const [alice, bob] = await Promise.all(['alice', 'bob'].map(async (name) => {
      const page = await context.newPage();
      await page.goto(`${examples.origin}/examples/presence.html?bus=${new URL(hub.page).host}#${name}`);
      return page;
    }));
    const areShown = (page, ...names) => page.waitForFunction((wanted) => {
      const shown = [...document.querySelectorAll('#members li')].map(({ textContent }) => textContent);
      return JSON.stringify(shown.sort()) === wanted;
    }, JSON.stringify(names.sort()));
    const bothAreShown = (name) => Promise.all([areShown(alice, 'alice (you)', name), areShown(bob, 'alice', `${name} (you)`)]);
    await bothAreShown('bob');
    await bob.getByLabel('Your name').fill('<b>Bob</b>');
    await bob.keyboard.press('Enter');
    await bothAreShown('<b>Bob</b>');
    const colour = '#0a141e';
    await bob.getByLabel('Your colour').fill(colour);
    await bob.getByLabel('Your colour').blur();
    await alice.waitForFunction((wanted) => [...document.querySelectorAll('#members li')].some(({ style }) => style.borderColor === wanted), 'rgb(10, 20, 30)');

    const observe = (page) => page.evaluate(() => {
      window.most = 0;
      const count = () => { window.most = Math.max(window.most, document.querySelectorAll('#members li').length); };
      new MutationObserver(count).observe(document.querySelector('#members'), { childList: true });
    });
    await Promise.all([alice, bob].map(observe));
    await hub.kill();
    for (const page of [alice, bob]) await isShown(page, '#state', 'no connection');
    hub = await serve({ port: hub.port, options });
    for (const page of [alice, bob]) await isShown(page, '#state', /^2 here$/);
    await bothAreShown('<b>Bob</b>');
    for (const page of [alice, bob]) assert.equal(await page.evaluate(() => window.most), 2, 'nobody was there twice');

    await bob.goto('about:blank');
    await areShown(alice, 'alice (you)');
    await isShown(alice, '#changes li', '<b>Bob</b> has left: closed');
  });

  test('figures, and rows that come and go', async (t) => {
    const page = await openConsole(t);
    await isShown(page, '#clients tbody tr', 'you');
    await isShown(page, '#bus', 'hub');
    const carol = await connect(t, { id: 'carol' });
    await carol.subscribe('weather', () => {});
    await isShown(page, '#clients tbody tr', 'carol');
    await isShown(page, '#topics tbody tr', 'weather');
    assert.equal(await page.locator('#topics tbody tr', { hasText: '__kps' }).count(), 0);
    await page.getByLabel('Filter clients by id').fill('nobody');
    await hasGone(page, '#clients tbody tr', 'carol');
    await page.getByLabel('Filter clients by id').fill('CAR');
    await isShown(page, '#clients tbody tr', 'carol');
    await page.getByRole('button', { name: 'Subs' }).click();
    assert.equal(await page.locator('th[aria-sort=descending]').innerText(), 'Subs');
    await carol.close();
    await hasGone(page, '#clients tbody tr', 'carol');
    await hasGone(page, '#topics tbody tr', 'weather');
  });

  test('several workers are one server, and each has a line', async (t) => {
    const hub = await serve({ options: ['--workers', '3'] });
    t.after(() => hub.kill());
    const page = await openConsole(t, { viewport: { width: 360, height: 740 } }, hub);
    await isShown(page, '#nodes .note', '3, all up'); // they have told that the connections of the page's files are over
    const made = [];
    for (const id of ['judy', 'karl', 'lena', 'mona']) made.push(await connect(t, { id }, hub));
    for (const client of made) await client.subscribe('all', () => {});
    for (const { id } of made) await isShown(page, '#clients tbody tr', id);
    await isShown(page, '[data-figure=client_count]', '5');
    for (const number of [1, 2, 3]) await isShown(page, '#nodes tbody tr', new RegExp(`hub\\.${number}.*up.*2 of 2`));
    const clients = await page.locator('#nodes tbody .c-crowd').allInnerTexts();
    assert.deepEqual(clients.map(Number).sort(), [1, 2, 2]);
    const out = () => page.locator('#nodes tbody .c-delivered').allInnerTexts();
    do { await made[0].publishWithReceipt('all', 1); } while ((await out()).filter((text) => Number(text) > 0).length < 3);
    for (const width of [360, 700, 1181, 1760, 2560]) {
      assert.deepEqual(await cutAt(page, width, '#nodes :is(thead button, tbody :is(td, th))'), [], `at ${width} pixels`);
    }
  });

  test('one process has no list of workers', async (t) => {
    const page = await openConsole(t);
    await isShown(page, '#clients tbody tr', 'you');
    assert.equal(await page.locator('#nodes').isVisible(), false);
  });

  test('the charts are read with the keyboard', async (t) => {
    const page = await openConsole(t);
    await page.waitForFunction(() => (document.querySelector('.series')?.getAttribute('d').match(/L/g)?.length ?? 0) >= 2);
    const chart = page.getByRole('slider');
    await chart.focus();
    await chart.press('ArrowLeft');
    assert.match(await chart.getAttribute('aria-valuetext'), /Messages in.*\d\d:\d\d:\d\d.*Bytes/s);
    await chart.press('Escape');
    assert.doesNotMatch(await chart.getAttribute('aria-valuetext'), /\d\d:\d\d:\d\d/);
  });

  test('messages of a topic that was chosen with a click', async (t) => {
    const page = await openConsole(t);
    const dave = await connect(t, { id: 'dave' });
    await dave.subscribe('news', () => {});
    await page.getByRole('button', { name: 'Watch news' }).click();
    await publishUntilShown(page, dave, 'news', 'from JavaScript');
    await isShown(page, '#messages li', 'dave');
    const { code } = await publish(server, 'news', { text: 'from Python', numbers: [1, 2] });
    assert.equal(code, 0);
    await isShown(page, '#messages li', 'from Python');
    await page.locator('#messages summary', { hasText: 'from Python' }).click();
    assert.match(await page.locator('#messages pre').innerText(), /\{\n {2}"text": "from Python",\n/);
    await page.getByRole('button', { name: 'Pause' }).click();
    await dave.publishWithReceipt('news', 'while it rests');
    await isShown(page, '#watch-count', '1 wait');
    assert.equal(await page.locator('#messages li', { hasText: 'while it rests' }).count(), 0);
    await page.getByRole('button', { name: 'Pause' }).click();
    await isShown(page, '#messages li', 'while it rests');
    await page.getByRole('button', { name: 'Clear' }).click();
    await page.getByRole('button', { name: 'Stop watching news' }).click();
    assert.equal(await page.locator('#messages li, #watched li').count(), 0);
  });

  test('patterns: among the topics, and watched', async (t) => {
    const page = await openConsole(t);
    const erin = await connect(t, { id: 'erin' });
    const name = '<b>sensors</b>/*\u200b/**';
    await erin.subscribe(new Pattern(name), () => {});
    await erin.subscribe(name, () => {});
    const rows = page.locator('#topics tbody tr', { hasText: '<b>sensors</b>/*\\u200b/**' });
    await rows.nth(1).waitFor(); // a topic may have the same name
    assert.equal(await page.locator('#topics .badge', { hasText: 'pattern' }).count(), 1);
    assert.equal(await page.locator('#topics b').count(), 0);
    assert.equal(await page.locator('#topic-names option').evaluateAll((all, text) => all.filter(({ value }) => value === text).length, name), 1);
    await page.getByRole('button', { name: 'Watch pattern <b>' }).click();
    assert.deepEqual(await rows.locator('.c-act span:first-child').allInnerTexts().then((texts) => texts.sort()), ['Watch', 'Watching']);
    await publishUntilShown(page, erin, '<b>sensors</b>/7\u200b/a/b', 'warm');

    // What several of them have is shown once.
    await page.locator('#watch-form').getByText('Pattern', { exact: true }).click();
    for (const text of ['**', 'kitchen/*']) {
      await page.getByLabel('Pattern to watch').fill(text);
      await page.getByLabel('Pattern to watch').press('Enter');
    }
    await page.locator('#watch-form').getByText('Topic', { exact: true }).click();
    await watch(page, 'kitchen/light');
    await publishUntilShown(page, erin, 'kitchen/light', 'a first one');
    await publishUntilShown(page, erin, 'kitchen/heat', 'a second one');
    await erin.publishWithReceipt('kitchen/light', 'on');
    await erin.publishWithReceipt('kitchen/heat', 'off');
    await erin.publishWithReceipt('kitchen/light', 'the end');
    for (const text of ['on', 'off', 'the end']) await isShown(page, '#messages code', `"${text}"`);
    for (const text of ['on', 'off']) assert.equal(await page.locator('#messages code', { hasText: `"${text}"` }).count(), 1);

    await watch(page, 'kitchen/**'); // as a topic
    await isShown(page, '#watch-status', 'This is one topic, with a star in its name. For all that match, choose Pattern.');
    assert.equal(await page.locator('#watched .badge').count(), 3);
    await page.getByRole('button', { name: 'Stop watching kitchen/* pattern', exact: true }).click();
    assert.equal(await page.locator('#watched .badge').count(), 2);
    await erin.close();
    await rows.nth(1).waitFor({ state: 'detached' }); // the page itself has the pattern still
    await page.waitForFunction(() => document.querySelectorAll('#topics .name > .badge').length === 2);
  });

  test('a flood leaves the page responsive', async (t) => {
    const page = await openConsole(t);
    await watch(page, 'flood');
    const source = await connect(t);
    await publishUntilShown(page, source, 'flood', 'first');
    /** How long a flood lasts, and for how much of that the page stands still at most. */
    const flood = async (last) => {
      await page.evaluate(() => {
        window.longest = 0;
        let before = performance.now();
        cancelAnimationFrame(window.awaited);
        window.awaited = requestAnimationFrame(function next(now) {
          window.longest = Math.max(window.longest, now - before);
          before = now;
          window.awaited = requestAnimationFrame(next);
        });
      });
      const begun = performance.now();
      for (let turn = 0; turn < 20; turn++) {
        for (let i = 0; i < 5000; i++) await source.publish('flood', { turn, i });
        await source.flush();
      }
      await source.publish('flood', last);
      await isShown(page, '#messages li', last);
      return { lasted: performance.now() - begun, longest: await page.evaluate(() => window.longest) };
    };
    let { lasted, longest } = await flood('the last');
    await isShown(page, '#messages .skipped', 'skipped');
    assert.ok(await page.locator('#messages > li').count() <= 500);
    // If the machine stood still and not the page, another flood tells.
    if (longest >= lasted / 2) ({ lasted, longest } = await flood('the very last'));
    assert.ok(longest < lasted / 2, `the page stood still for ${longest} of ${lasted} ms`);
  });

  test('acks: results, errors, and who is missing', async (t) => {
    const page = await openConsole(t);
    const erin = await connect(t, { id: 'erin' });
    const frank = await connect(t, { id: 'frank' });
    const grace = await connect(t, { id: 'grace' });
    await erin.subscribe('sum', ({ data }) => data.a + data.b);
    await frank.subscribe('sum', () => { throw new Error('cannot count'); });
    for (const topic of ['sum', 'silence']) await grace.subscribe(topic, () => new Promise(() => {}));
    const ask = async (topic, seconds) => {
      await page.getByLabel('Topic', { exact: true }).last().fill(topic);
      await page.getByLabel('Time limit of acks').fill(seconds);
      await page.getByRole('button', { name: 'With ack' }).click();
    };
    await page.getByLabel('Payload', { exact: true }).fill('{"a": 1, "b": 41}');
    await ask('silence', '0.3');
    await isShown(page, '.answers li', /grace.*missing: no answer in time/s);
    await isShown(page, '.outcome', '0 of 1 handled it; 1 missing');
    await ask('sum', '60'); // nobody is missing because the machine is busy
    await isShown(page, '.answers li', /✓.*erin.*42/s);
    await isShown(page, '.answers li', /✗.*frank.*failed: cannot count/s);
    await isShown(page, '.answers li', /grace.*has not answered yet/s);
    await grace.close();
    await isShown(page, '.answers li', /grace.*missing: disconnected/s);
    await isShown(page, '.outcome', '1 of 3 handled it; 1 failed, 1 missing');
  });

  test('receipts, refusals, and a message to one client', async (t) => {
    const page = await openConsole(t);
    const got = [];
    const heidi = await connect(t, { id: 'heidi', onDirect: ({ data }) => { got.push(data); return 'thanks'; } });
    await heidi.subscribe('places', () => {});
    await page.locator('#destination').fill('places');
    await page.getByRole('button', { name: 'With receipt' }).click();
    await isShown(page, '.outcome', 'Passed on to 1 subscriber.');
    await page.getByRole('button', { name: 'Message heidi' }).click();
    assert.equal(await page.locator('#destination').inputValue(), 'heidi');
    await page.getByText('Text', { exact: true }).click();
    await page.getByLabel('Payload', { exact: true }).fill('psst');
    await page.getByRole('button', { name: 'With ack' }).click();
    await isShown(page, '.answers li', /heidi.*"thanks"/s);
    assert.deepEqual(got, ['psst']);
    await page.locator('#destination').fill('nobody');
    await page.getByRole('button', { name: 'Send' }).click();
    await isShown(page, '.outcome', 'No client has this id.');
    const { id } = await page.evaluate(() => ({ id: document.querySelector('#clients tr:has(.badge) .alien').textContent }));
    await heidi.publishToId(id, 'to you');
    await isShown(page, '#messages li', /to this console.*heidi.*to you/s);
  });

  test('publishing with the keyboard alone', async (t) => {
    const page = await openConsole(t);
    const ivan = await connect(t);
    const messages = await ivan.subscribe('keys');
    await page.locator('#destination').focus();
    await page.keyboard.type('keys');
    await page.keyboard.press('Tab'); // JSON or text
    await page.keyboard.press('Tab');
    await page.keyboard.press('ControlOrMeta+a');
    await page.keyboard.type('{"typed": tru');
    await isShown(page, '#verdict.problem', 'Not JSON yet');
    await page.keyboard.press('Control+Enter');
    assert.equal(await page.locator('.outcome').count(), 0);
    await page.keyboard.type('e}');
    await isShown(page, '#verdict', 'Valid JSON');
    await page.keyboard.press('Control+Enter');
    assert.deepEqual((await messages.next()).value.data, { typed: true });
    for (let i = 0; i < 3; i++) await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.value), 'ack');
    await page.keyboard.press('Enter');
    assert.deepEqual((await messages.next()).value.data, { typed: true });
    messages.next();
    await isShown(page, '.outcome', 'It was handled.');
  });

  test('hostile names and payloads are only text', async (t) => {
    const topic = `<img src=x onerror="window.hacked=1">'"\\&amp;\u202eRTL`;
    const hostile = `${topic}\u0000\n`; // no name may have those
    const page = await openConsole(t);
    const mallory = await connect(t, { id: topic });
    const long = await connect(t, { id: `long${'x'.repeat(5000)}` });
    await mallory.subscribe(topic, ({ data }) => { if (data === 'no') throw new Error(hostile); return hostile; });
    await long.subscribe('y'.repeat(5000), () => {});
    await isShown(page, '#clients tbody tr', '<img src=x onerror=');
    await isShown(page, '#topics tbody tr', 'yyyyy');
    await page.locator('#topics tbody tr', { hasText: '<img' }).locator('.c-act button').click();
    await publishUntilShown(page, mallory, topic, hostile, '<img src=x');
    await page.locator('#messages summary').first().click();
    await page.locator('#destination').fill(topic);
    await page.locator('#clients tbody tr', { hasText: '<img' }).locator('.c-act button').click();
    await page.getByRole('button', { name: 'With ack' }).click();
    await isShown(page, '.outcome', '<img');
    await page.evaluate(() => new Promise(requestAnimationFrame));
    assert.equal(await page.locator('main img').count(), 0);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.doesNotMatch(await page.locator('body').innerText(), /\u202e/);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  });

  test('it comes back after a server was killed, and watches the same topics', async (t) => {
    let hub = await serve();
    t.after(() => hub.kill());
    const page = await openConsole(t, { allowed: UNREACHABLE }, hub);
    await watch(page, 'survivors');
    await hub.kill();
    await page.waitForSelector('body[data-state=waiting]');
    await isShown(page, '#notice', 'does not answer');
    await isShown(page, '#countdown', /in \d s/);
    await page.locator('#destination').fill('survivors');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await isShown(page, '.outcome', 'Not sent: there is no connection');
    hub = await serve({ port: hub.port });
    await isConnected(page);
    const client = await connect(t, {}, hub);
    await publishUntilShown(page, client, 'survivors', 'here again');
    await page.locator('#notice').waitFor({ state: 'hidden' });
  });

  test('it tells when it cannot come back by itself', async (t) => {
    const page = await openConsole(t);
    await isShown(page, '#clients tbody tr', 'you');
    const id = await page.locator('#clients tr', { hasText: 'you' }).locator('.alien').first().innerText();
    await connect(t, { id });
    await isShown(page, '#state', 'Gone');
    await isShown(page, '#notice', 'another connection took this id');
    await page.getByRole('button', { name: 'Reload' }).click();
    await isConnected(page);
  });

  test('offline and online again', async (t) => {
    let hub = await serve();
    t.after(() => hub.kill());
    const page = await openConsole(t, { allowed: UNREACHABLE }, hub);
    await watch(page, 'tunnel');
    // The emulated network leaves WebSockets alone that are open already: end it at the other side.
    await page.context().setOffline(true);
    await hub.kill();
    await isShown(page, '#state', 'Offline');
    hub = await serve({ port: hub.port });
    await page.context().setOffline(false);
    await isConnected(page);
    await publishUntilShown(page, await connect(t, {}, hub), 'tunnel', 'light');
  });

  test('a token goes to the server in the first message, and nowhere else', async (t) => {
    const context = await browse(t);
    const page = await context.newPage();
    const sent = [];
    page.on('websocket', (socket) => {
      assert.equal(new URL(socket.url()).search, '');
      socket.once('framesent', ({ payload }) => sent.push(JSON.parse(payload).token));
    });
    await page.goto(`${server.page}?token=s%26cret&x=1`);
    await isConnected(page);
    await page.reload();
    await isConnected(page);
    assert.equal(page.url(), `${server.page}?x=1`);
    assert.deepEqual(sent, ['s&cret', 's&cret']);
    assert.doesNotMatch(await page.content(), /cret/);
  });

  test('the token of a link does not replace another one unless somebody says so', async (t) => {
    const page = await (await browse(t)).newPage();
    const sent = [];
    page.on('websocket', (socket) => socket.once('framesent', ({ payload }) => sent.push(JSON.parse(payload).token)));
    const open = async (token, accept) => {
      const asked = [];
      const answer = (dialog) => { asked.push(dialog.message()); return accept ? dialog.accept() : dialog.dismiss(); };
      page.on('dialog', answer);
      await page.goto(`${server.page}?token=${token}`);
      await isConnected(page);
      page.off('dialog', answer);
      assert.equal(page.url(), server.page);
      return asked.length;
    };
    assert.equal(await open('mine', false), 0, 'there was none');
    assert.equal(await open('mine', false), 0, 'it is the same');
    assert.equal(await open('mallory', false), 1);
    assert.equal(await open('other', true), 1);
    await page.reload();
    await isConnected(page);
    assert.deepEqual(sent, ['mine', 'mine', 'mine', 'other', 'other']);
  });

  test('names that look alike are told apart', async (t) => {
    const page = await openConsole(t);
    const ids = ['alice', 'alice\u00ad', 'alice\u2800', 'alice ', 'ali\ufe0fce', 'ali\u{e0041}ce'];
    for (const id of ids) await connect(t, { id });
    await page.waitForFunction((count) => [...document.querySelectorAll('#clients .alien')]
      .filter(({ textContent }) => /^a.*l.*e/.test(textContent)).length >= count, ids.length);
    const names = await page.locator('#clients tbody .name .alien').allInnerTexts();
    for (const name of ['alice', 'alice\\u00ad', 'alice\\u2800', 'alice\\u0020', 'ali\\ufe0fce', 'ali\\u{e0041}ce']) assert.ok(names.includes(name), name);
  });

  test('what its token does not allow is told', async (t) => {
    const tokens = await tokenFile(t);
    const token = 'the-token-of-this-page';
    const allow = (lines) => tokens.write(`[page]\ntoken = "${token}"\n${lines}\n`);
    await allow('subscribe = ["news", "log"]\npublish = ["news"]');
    let hub = await serve({ options: ['--tokens', tokens.path] });
    t.after(() => hub.kill());
    const page = await openConsole(t, { allowed: UNREACHABLE }, { page: `${hub.page}?token=${token}` });
    await isShown(page, '#notice', 'does not show its figures to this page: that takes the permission “console”');
    for (const list of ['#clients', '#topics', '#events']) await isShown(page, `${list} .said`, 'The server does not show this to this page.');
    for (const topic of ['news', 'log']) await watch(page, topic);
    await page.getByLabel('Topic to watch').fill('secret');
    await page.getByLabel('Topic to watch').press('Enter');
    await isShown(page, '#watch-status', 'secret is not watched: this client may not subscribe to this topic.');
    await page.locator('#watch-form').getByText('Pattern', { exact: true }).click();
    await page.getByLabel('Pattern to watch').fill('news**');
    await page.getByLabel('Pattern to watch').press('Enter');
    await isShown(page, '#watch-status', 'news** is not watched: this client may not subscribe to this pattern.');
    assert.equal(await page.locator('#watched li').count(), 2);
    await page.locator('#destination').fill('log');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await isShown(page, '#outcomes', 'Refused: this client may not publish on this topic.');
    // It comes back to a server that allows it less of one kind, and more of another.
    await hub.kill();
    await allow('subscribe = ["news"]\nconsole = true');
    hub = await serve({ port: hub.port, options: ['--tokens', tokens.path] });
    await isShown(page, '#watch-status', 'log is not watched: this client may not subscribe to this topic.');
    assert.equal(await page.locator('#watched li').count(), 1);
    await isShown(page, '#clients tbody tr', 'you');
    await page.waitForSelector('#notice', { state: 'hidden' });
  });

  test('names and headings are legible at every width, and what has no column is below the name', async (t) => {
    const page = await openConsole(t);
    const sensor = await connect(t, { id: 'sensor-in-the-cellar' });
    await sensor.subscribe('cellar/temperature', () => {});
    await isShown(page, '#clients tbody tr', sensor.id);
    await isShown(page, '#topics tbody tr', 'cellar/temperature');
    for (const width of [360, 390, 480, 620, 640, 700, 788, 820, 960, 1000, 1024, 1100, 1181, 1240, 1359, 1360, 1440, 1899, 1900, 2560]) {
      assert.deepEqual(await cutAt(page, width, '.list :is(header .note, thead button, tbody .name *)', 110), [], `at ${width} pixels`);
      const row = page.locator('#clients tbody tr', { hasText: sensor.id });
      const { text, name } = await row.evaluate((element) => ({ text: element.innerText, name: element.querySelector('.alien').clientWidth }));
      assert.match(text, /127\.0\.0\.1:\d+/, `the address at ${width} pixels`);
      assert.match(text, /\d+ s\b/, `the age at ${width} pixels`);
      assert.ok(name >= 100, `an id has ${name} of ${width} pixels`);
    }
  });

  test('the theme is remembered', async (t) => {
    const page = await openConsole(t, { viewport: { width: 360, height: 740 }, colorScheme: 'light' });
    const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const light = await background();
    const theme = page.getByLabel('Theme');
    assert.equal(await theme.evaluate(({ selectedOptions }) => selectedOptions[0].text), 'System theme');
    await theme.selectOption('Dark theme');
    const dark = await background();
    assert.notEqual(dark, light);
    await page.reload();
    assert.equal(await background(), dark);
    await theme.selectOption('System theme');
    assert.equal(await background(), light);
    await page.emulateMedia({ colorScheme: 'dark' });
    assert.equal(await background(), dark);
  });
});

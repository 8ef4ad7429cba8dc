// What the console shows of a server to who looks after it: searches, details, events, the record, tokens, and all of its states.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';

import { Pattern } from '../../clients/js/kps.js';
import { launch, serve } from './bus.js';
import { until } from './how-to.js';
import * as pages from './pages.js';
import { UNREACHABLE, cutAt, hasGone, isConnected, isShown, tokenFile } from './pages.js';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8').catch(() => '');
const THEMES = ['light', 'dark'];

describe('for operators', { skip: pages.missing }, () => {
  let browser;
  let server;
  before(async () => {
    server = await serve({ options: ['--may-disconnect', '**', '--history', 'log/**=5', '--max-topic', '1000', '--max-id', '1000'] });
    browser = await launch();
  });
  after(() => Promise.all([browser?.close(), server?.kill()]));

  const openConsole = (t, options, hub = server) => pages.openConsole(t, browser, hub, options);
  const connect = (t, options, hub = server) => pages.connect(t, hub, options);
  const details = (page) => page.locator('#details');
  const openDetails = async (page, list, name) => {
    await page.locator(`${list} tbody`).getByRole('button', { name, exact: true }).first().click();
    await details(page).locator('dl.facts div').first().waitFor();
  };
  const fact = (page, term) => details(page).locator('.facts div', { has: page.locator('dt', { hasText: term }) }).locator('dd').innerText();

  describe('a crowd', () => {
    let hub;
    before(async () => { hub = await serve(); });
    after(() => hub?.kill());

    test('all clients and topics are searched and sorted, not only the first 200', async (t) => {
      const crowd = [];
      for (let number = 0; number < 230; number++) {
        const client = await connect(t, { id: `c${number}` }, hub);
        crowd.push(client);
        client.subscribe(`topic/${number}`, () => {});
      }
      for (const client of crowd) await client.flush();
      const page = await openConsole(t, {}, hub);
      await isShown(page, '#clients .note', '200 of 231');

      await page.getByLabel('Filter clients by id').fill('C229');
      await isShown(page, '#clients tbody tr', 'c229');
      await isShown(page, '#clients .note', /^1 of 231$/);
      await page.getByLabel('Filter clients by id').fill('c22');
      await isShown(page, '#clients .note', /^11 of 231$/);
      await page.getByLabel('Filter clients by id').fill('');
      await page.locator('#clients').getByRole('button', { name: 'Id' }).click();
      await page.waitForFunction(() => document.querySelector('#clients tbody tr .name')?.textContent.endsWith('you'));
      await isShown(page, '#clients tbody tr', 'c229');

      await page.getByLabel('Filter topics by name').fill('22');
      await isShown(page, '#topics .note', '12 of 230');
      await page.getByLabel('Filter topics by name').fill('');
      await page.locator('#topics').getByRole('button', { name: 'Topic', exact: true }).click();
      await page.waitForFunction(() => document.querySelector('#topics tbody .alien')?.textContent === 'topic/229');
      await page.locator('#topics').getByRole('button', { name: 'Msgs/s' }).click();
      const publishing = setInterval(() => crowd[7].publish('topic/215', 'x').catch(() => {}), 100);
      t.after(() => clearInterval(publishing));
      await page.waitForFunction(() => document.querySelector('#topics tbody .alien')?.textContent === 'topic/215');
      await page.locator('#clients').getByRole('button', { name: 'In/s' }).click();
      await page.waitForFunction(() => document.querySelector('#clients tbody .alien')?.textContent === 'c7');
    });

    test('more than the first ones can be shown', async (t) => {
      for (let number = 0; number < 230; number++) await connect(t, { id: `m${number}` }, hub);
      const page = await openConsole(t, {}, hub);
      await isShown(page, '#clients .note', '200 of 231');
      await page.locator('#clients .further').scrollIntoViewIfNeeded();
      await page.locator('#clients').getByRole('button', { name: 'Show more' }).click();
      await isShown(page, '#clients .note', /^231$/);
      await page.waitForSelector('#clients .further', { state: 'hidden' });
      assert.equal(await page.locator('#clients tbody tr').count(), 231);
    });

    test('whoever asks for more again and again gets all that the server tells', async (t) => {
      for (let number = 0; number < 230; number++) await connect(t, { id: `n${number}` }, hub);
      const page = await openConsole(t, {}, hub);
      await isShown(page, '#clients .note', '200 of 231');
      await page.locator('#clients .further').scrollIntoViewIfNeeded();
      await page.evaluate(() => { for (let times = 0; times < 10; times++) document.querySelector('#clients .further').click(); });
      await isShown(page, '#clients .note', /^231$/);
    });

    test('a search that finds nothing says so', async (t) => {
      const page = await openConsole(t, {}, hub);
      await isShown(page, '#clients tbody tr', 'you');
      await page.getByLabel('Filter clients by id').fill('nobody at all');
      await isShown(page, '#clients .said', 'No client fits “nobody at all”.');
      await page.getByLabel('Filter topics by name').fill('<b>');
      await isShown(page, '#topics .said', 'No topic or pattern fits “<b>”.');
    });
  });

  test('a reload shows the last minutes', async (t) => {
    const hub = await serve();
    t.after(() => hub.kill());
    const client = await connect(t, {}, hub);
    await client.subscribe('t', () => {});
    for (let number = 0; number < 50; number++) await client.publish('t', number);
    await client.flush();
    const page = await openConsole(t, {}, hub);
    const peak = () => page.waitForFunction(() => {
      const drawn = document.querySelector('.chart .series')?.getAttribute('d') ?? '';
      const heights = [...drawn.matchAll(/[ML][\d.]+ ([\d.]+)/g)].map(([, height]) => Number(height));
      return heights.length > 3 && Math.max(...heights) - Math.min(...heights) > 30;
    });
    await peak(); // it was published before the page was there
    await page.reload();
    await peak();
  });

  test('all about a client, and a way to its topics and back', async (t) => {
    const page = await openConsole(t);
    const alice = await connect(t, { id: 'alice' });
    await alice.subscribe('rooms/1', () => {});
    await alice.subscribe(new Pattern('rooms/**'), () => {});
    await alice.subscribe('jobs', () => {}, { group: 'workers' });
    await alice.publish('rooms/1', 1);
    await openDetails(page, '#clients', 'alice');
    assert.match(await fact(page, 'Address'), /^127\.0\.0\.1:\d+$/);
    assert.match(await fact(page, 'Connected'), /since \d\d:\d\d:\d\d$/);
    assert.equal(await fact(page, 'Identity'), 'none (anonymous)');
    assert.equal(await fact(page, 'Node'), 'hub');
    assert.match(await fact(page, 'Messages from it'), /^[1-9].*\/s$/);
    await isShown(page, '#details h3', 'Subscriptions (3)');
    await isShown(page, '#details li', /jobs\s*group workers/);
    await isShown(page, '#details li', /rooms\/\*\*\s*pattern/);
    await details(page).getByRole('button', { name: 'rooms/1' }).click();
    await isShown(page, '#details h3', 'Subscribers (1)');
    await isShown(page, '#details h3', 'Patterns that have it (1)');
    await details(page).getByRole('button', { name: 'alice' }).click();
    await isShown(page, '#details h3', 'Subscriptions (3)');
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => !document.querySelector('#details').open);
  });

  test('details follow, and say when the client has gone', async (t) => {
    const page = await openConsole(t);
    const bob = await connect(t, { id: 'bob' });
    await openDetails(page, '#clients', 'bob');
    await isShown(page, '#details .rest', 'It subscribes to nothing.');
    await bob.subscribe('news', () => {});
    await isShown(page, '#details li', 'news');
    await bob.close();
    await isShown(page, '#details .said', 'It is not connected any more.');
  });

  test('all about a topic: groups, history, presence, patterns', async (t) => {
    const page = await openConsole(t);
    const [one, two] = [await connect(t, { id: 'one' }), await connect(t, { id: 'two' })];
    const topic = 'log/kitchen';
    for (const client of [one, two]) {
      await client.subscribe(topic, () => {}, { info: { name: `<b>${client.id}</b>` }, presence: () => {} });
      await client.subscribe(topic, () => {}, { group: 'workers' });
    }
    await one.subscribe(new Pattern('log/*'), () => {});
    for (let number = 0; number < 7; number++) await one.publishWithReceipt(topic, { number, text: '<i>hot</i>' });
    await isShown(page, '#topics tbody tr', /log\/kitchen\s*1 group\s*history\s*presence/);
    await isShown(page, '[data-figure=groups]', '1');
    await isShown(page, '[data-figure=rosters]', '1');
    await isShown(page, '[data-figure=history_topics]', /^1/);
    await openDetails(page, '#topics', topic);
    assert.equal(await fact(page, 'Subscribers'), '4');
    assert.equal(await fact(page, 'History'), '5 messages of up to 5');
    assert.equal(await fact(page, 'Offsets'), '3 to 7');
    assert.equal(await fact(page, 'Presence'), '2 clients observe who is here');
    await isShown(page, '#details li', /workers\s*2 members/);
    await isShown(page, '#details li', /two.*"<b>two<\/b>"/s);
    await isShown(page, '#details li', /7.*one.*\{"number":6,"text":"<i>hot<\/i>"\}/s);
    assert.equal(await page.locator('#details :is(b > b, i)').count(), 0);
    await details(page).getByRole('button', { name: 'Watch' }).click();
    await isShown(page, '#details button[aria-pressed=true]', 'Watching');
    await isShown(page, '#watched li', topic);
    await details(page).getByRole('button', { name: 'Publish' }).click();
    assert.equal(await page.locator('#destination').inputValue(), topic);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'payload');
  });

  test('a client is disconnected, when that was confirmed', async (t) => {
    const page = await openConsole(t);
    const closed = [];
    const carol = await connect(t, { id: 'carol', onClose: (error) => closed.push(error?.message) });
    await openDetails(page, '#clients', 'carol');
    await details(page).getByRole('button', { name: 'Disconnect' }).click();
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Disconnect now');
    await details(page).getByRole('button', { name: 'Cancel' }).click();
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Disconnect');
    assert.equal(carol.connected, true);
    await details(page).getByRole('button', { name: 'Disconnect' }).click();
    await details(page).getByRole('button', { name: 'Disconnect now' }).click();
    await isShown(page, '#details .said', 'It is disconnected.');
    await until(() => closed.length); // the page may be told before it
    assert.match(closed.join(), /disconnected by an operator/);
    await details(page).getByRole('button', { name: 'Close' }).click();
    await hasGone(page, '#clients tbody tr', 'carol');
    await isShown(page, '#happened li', /carol.*is disconnected by console-/s);
  });

  test('whoever may not disconnect others is told so', async (t) => {
    const hub = await serve();
    t.after(() => hub.kill());
    const page = await openConsole(t, {}, hub);
    await connect(t, { id: 'dave' }, hub);
    await openDetails(page, '#clients', 'dave');
    await isShown(page, '#details .hint', 'takes the permission “disconnect”');
    assert.equal(await details(page).getByRole('button', { name: 'Disconnect' }).isVisible(), false);
  });

  test('events and refusals as they happen, and those from before', async (t) => {
    const hub = await serve();
    t.after(() => hub.kill());
    const early = await connect(t, { id: 'early' }, hub);
    const page = await openConsole(t, {}, hub);
    await isShown(page, '#happened li', /early\s*connected from 127/);
    for (const number of [1, 2]) {
      await early.publish('__kps/x', number);
      await early.flush();
    }
    await isShown(page, '#happened .trouble', /early\s*publish “__kps\/x” refused: this topic is the server's own \(2 times\)/);
    await early.close();
    await isShown(page, '#happened li', /early\s*left: closed \(1000\)/);
    await page.locator('#events').getByText('Problems', { exact: true }).click();
    await hasGone(page, '#happened li', 'left: closed');
    await isShown(page, '#happened li', 'refused');
    await isShown(page, '#events .note', '1 problem');
    await page.locator('#happened').getByRole('button', { name: 'early' }).first().click();
    await isShown(page, '#details .said', 'It is not connected any more.');
  });

  test('events of a server that has begun anew are beside those from before', async (t) => {
    const first = await serve();
    t.after(() => first.kill());
    await connect(t, { id: 'early' }, first);
    const page = await openConsole(t, { allowed: UNREACHABLE }, first);
    await isShown(page, '#happened li', /early\s*connected from 127/);
    await first.kill();
    const second = await serve({ port: first.port });
    t.after(() => second.kill());
    await connect(t, { id: 'late' }, second);
    await isShown(page, '#happened li', /late\s*connected from 127/);
    await isShown(page, '#happened li', /early\s*connected from 127/);
  });

  test('several workers are asked as one', async (t) => {
    const hub = await serve({ options: ['--workers', '2', '--may-disconnect', '**'] });
    t.after(() => hub.kill());
    const made = [];
    for (const id of ['w1', 'w2', 'w3', 'w4']) made.push(await connect(t, { id }, hub));
    for (const client of made) await client.subscribe('all', () => {});
    const page = await openConsole(t, {}, hub);
    for (const { id } of made) await isShown(page, '#happened li', id);
    await isShown(page, '#happened li', /hub\.1\s*reaches hub\.2/);
    await openDetails(page, '#topics', 'all');
    await isShown(page, '#details h3', 'Subscribers (4)');
    for (const { id } of made) {
      await details(page).getByRole('button', { name: id }).click();
      await isShown(page, '#details .facts', /Node\s*hub\.\d/);
      await details(page).getByRole('button', { name: 'all' }).click();
    }
    await details(page).getByRole('button', { name: 'w3' }).click();
    await details(page).getByRole('button', { name: 'Disconnect' }).click();
    await details(page).getByRole('button', { name: 'Disconnect now' }).click();
    await isShown(page, '#details .said', 'It is disconnected.');
  });

  test('all topics are watched with one click', async (t) => {
    const page = await openConsole(t);
    await page.locator('#watch-form').getByText('All topics').click();
    assert.equal(await page.locator('#watch-topic').isDisabled(), true);
    await page.locator('#watch-form button').click();
    await isShown(page, '#watched li', /\*\*\s*pattern/);
    const erin = await connect(t, { id: 'erin' });
    const publishing = setInterval(() => erin.publish('any/topic/at/all', 'something').catch(() => {}), 100);
    t.after(() => clearInterval(publishing));
    await isShown(page, '#messages li', /any\/topic\/at\/all.*erin.*something/s);
  });

  test('every column can be sorted by, and says so', async (t) => {
    const page = await openConsole(t);
    await isShown(page, '#clients tbody tr', 'you');
    for (const list of ['#clients', '#topics']) {
      const headings = page.locator(`${list} thead th:not(.c-act):visible button`);
      const count = await headings.count();
      assert.equal(count, await page.locator(`${list} thead th:not(.c-act):visible`).count());
      for (let index = 0; index < count; index++) {
        const heading = headings.nth(index);
        const arrow = () => heading.evaluate((element) => getComputedStyle(element, '::after').content);
        if (index) assert.match(await arrow(), /^"▲▼"/);
        await heading.click();
        assert.match(await arrow(), /^"[▲▼]"/);
        assert.match(await heading.locator('..').getAttribute('aria-sort'), /^(a|de)scending$/);
      }
    }
    await page.setViewportSize({ width: 390, height: 800 });
    await page.getByLabel('Sort clients by').selectOption('Queue');
    await page.getByRole('button', { name: 'Descending, change to ascending' }).first().click();
    assert.equal(await page.locator('#clients th[aria-sort=ascending]').evaluate((element) => element.textContent), 'Queue');
  });

  test('names that are cut off are shown in full to the pointer, to the keyboard, and in the details', async (t) => {
    const page = await openConsole(t, { viewport: { width: 390, height: 800 } });
    const id = `a-client-${'with-a-very-long-id-'.repeat(12)}end`;
    await connect(t, { id });
    const name = page.locator('#clients tbody').getByRole('button', { name: 'a-client-with' });
    await name.hover();
    await isShown(page, '#tip', id);
    await page.mouse.move(0, 0);
    await page.waitForSelector('#tip', { state: 'hidden' });
    await page.getByLabel('Filter clients by id').focus();
    await until(async () => {
      await page.keyboard.press('Tab');
      return page.evaluate(() => document.activeElement.matches('#clients tbody button')
        && document.activeElement.textContent.startsWith('a-client'));
    });
    await isShown(page, '#tip', id);
    const box = await page.locator('#tip').boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= 390);
    await page.keyboard.press('Enter');
    await isShown(page, '#details', 'Address');
    const { text, isWhole } = await page.locator('#details-name .alien').evaluate((element) => ({
      text: element.textContent, isWhole: element.scrollWidth <= element.clientWidth && element.getBoundingClientRect().right <= innerWidth,
    }));
    assert.deepEqual([text, isWhole], [id, true]);
  });

  test('labels of the charts stand apart at every width', async (t) => {
    const page = await openConsole(t);
    for (const width of [360, 390, 621, 640, 700, 820, 1000, 1024, 1360, 1900, 2560]) {
      await page.setViewportSize({ width, height: 900 });
      await page.waitForFunction(() => [...document.querySelectorAll('.chart svg')].every((chart) => {
        const last = [...chart.querySelectorAll('text')].find((label) => label.textContent === 'now');
        return last && Math.abs(last.getBBox().x + last.getBBox().width - chart.clientWidth) < 10;
      }));
      const collisions = await page.evaluate(() => [...document.querySelectorAll('.chart svg')].flatMap((chart) => {
        const ofTime = [...chart.querySelectorAll('text')].filter(({ textContent }) => /min|now/.test(textContent));
        const labels = ofTime.map((label) => label.getBoundingClientRect());
        labels.sort((one, other) => one.left - other.left);
        return labels.slice(1).filter((label, index) => label.left < labels[index].right + 4);
      }).length);
      assert.equal(collisions, 0, `at ${width} pixels`);
    }
  });

  test('nothing moves while figures come', async (t) => {
    const client = await connect(t, { id: 'mover' });
    await client.subscribe('moving', () => {});
    const page = await (await pages.browse(t, browser)).newPage();
    await page.addInitScript(() => {
      window.shifts = [];
      new PerformanceObserver((list) => {
        for (const { hadRecentInput, sources, value } of list.getEntries()) {
          if (!hadRecentInput) window.shifts.push(...sources.map(({ node }) => `${value} ${node?.nodeName} ${node?.textContent.slice(0, 80)}`));
        }
      }).observe({ type: 'layout-shift', buffered: true });
    });
    await page.goto(server.page);
    await isShown(page, '#clients tbody tr', 'mover');
    await page.waitForFunction(() => (document.querySelector('.series')?.getAttribute('d').match(/L/g)?.length ?? 0) >= 3);
    assert.deepEqual(await page.evaluate(() => window.shifts), []);
  });

  test('big screens are used', async (t) => {
    const page = await openConsole(t, { viewport: { width: 2560, height: 1440 } });
    await isShown(page, '#clients tbody tr', 'you');
    const { right, bottom, scrolls } = await page.evaluate(() => ({
      right: document.querySelector('#publish').getBoundingClientRect().right,
      bottom: document.querySelector('#publish').getBoundingClientRect().bottom,
      scrolls: document.documentElement.scrollHeight > innerHeight,
    }));
    assert.ok(right > 2500 && bottom > 1400 && !scrolls, `${right} ${bottom} ${scrolls}`);
  });

  describe('tokens', () => {
    const TOKENS = '[page]\ntoken = "the-token-of-this-page"\nconsole = true\n[other]\ntoken = "the-token-without-much"\n';
    let hub;
    let tokens;

    async function start(t) {
      tokens = await tokenFile(t);
      await tokens.write(TOKENS);
      hub = await serve({ options: ['--tokens', tokens.path] });
      t.after(() => hub.kill());
      const page = await (await pages.browse(t, browser)).newPage();
      await page.goto(hub.page);
      return page;
    }

    const enter = async (page, token) => {
      await page.locator('#token').fill(token);
      await page.getByRole('button', { name: 'Connect' }).click();
    };

    test('without one there is a form, which says when one is wrong, and takes the next one', async (t) => {
      const page = await start(t);
      await isShown(page, '#state', 'Token needed');
      await isShown(page, '#login', 'This server lets in who has a token.');
      assert.equal(await page.evaluate(() => document.activeElement.id), 'token');
      assert.equal(await page.locator('#clients').isVisible(), false);
      await enter(page, 'wrong');
      await isShown(page, '#login-why.problem', 'The server does not accept this token.');
      assert.equal(await page.locator('#token').getAttribute('aria-invalid'), 'true');
      assert.equal(await page.locator('#token').inputValue(), '');
      await enter(page, 'the-token-of-this-page');
      await isConnected(page);
      await isShown(page, '#clients tbody tr', 'you');
      await isShown(page, '#clients thead', 'Identity');
      await isShown(page, '#clients tbody .c-identity', 'page');
      assert.equal(await page.locator('#login').isVisible(), false);
      await page.reload();
      await isConnected(page);
      assert.equal(page.url(), hub.page);
    });

    test('one that may not see the figures may be replaced', async (t) => {
      const page = await start(t);
      await enter(page, 'the-token-without-much');
      await isShown(page, '#notice', 'that takes the permission “console”');
      await page.getByRole('button', { name: 'Use another token' }).click();
      await isShown(page, '#login', 'Another token is used from now on.');
      await enter(page, 'the-token-of-this-page');
      await isShown(page, '#clients tbody tr', 'you');
    });

    test('one in a link is taken, and one that is wrong there is told', async (t) => {
      const page = await start(t);
      await page.goto(`${hub.page}?token=wrong`);
      await isShown(page, '#login-why.problem', 'does not accept');
      await page.goto(`${hub.page}?token=the-token-of-this-page`);
      await isConnected(page);
      assert.equal(page.url(), hub.page);
    });
  });

  test('who is connected is counted as others are, and empty lists say how to begin', async (t) => {
    const hub = await serve();
    t.after(() => hub.kill());
    const page = await openConsole(t, {}, hub);
    await isShown(page, '#clients .said', 'Nobody else is connected. A first client: kps sub news');
    await isShown(page, '#topics .said', 'A topic or pattern is here while somebody subscribes to it.');
    assert.equal(await page.locator('#clients .said code').innerText(), 'kps sub news');
    const client = await connect(t, { id: 'first' }, hub);
    await client.subscribe('news', () => {});
    for (const list of ['#clients', '#topics']) await page.waitForSelector(`${list} .said`, { state: 'hidden' });
    await page.locator('#events').getByText('Problems', { exact: true }).click();
    await isShown(page, '#events .said', 'No problems among the latest events.');
  });

  describe('whoever hears the page, or sees little of it', { skip: axe ? false : 'axe-core is missing: npm install' }, () => {
    /** What axe finds wrong with the page as it is. */
    async function check(page, what) {
      await page.evaluate(axe);
      const runOnly = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
      const { violations } = await page.evaluate((tags) => window.axe.run({ runOnly: tags }), runOnly);
      const found = violations.flatMap(({ id, nodes }) =>
        nodes.map(({ html, failureSummary }) => `${what}: ${id}: ${html.slice(0, 120)} ${failureSummary}`));
      assert.deepEqual(found, []);
    }

    for (const colorScheme of THEMES) {
      for (const viewport of [{ width: 1440, height: 900 }, { width: 390, height: 844 }]) {
        const name = `${colorScheme} at ${viewport.width} pixels`;

        test(`finds nothing in the way: ${name}`, async (t) => {
          const hub = await serve({ options: ['--may-disconnect', '**', '--history', 'log/**=5'] });
          t.after(() => hub.kill());
          const page = await openConsole(t, { colorScheme, viewport, allowed: UNREACHABLE }, hub);
          await isShown(page, '#clients .said', 'Nobody else');
          await check(page, 'empty');
          const [one, two] = [await connect(t, { id: 'one' }, hub), await connect(t, { id: 'two' }, hub)];
          await one.subscribe('log/1', () => {}, { presence: () => {}, info: { name: 'x' } });
          await two.subscribe('log/1', () => 'yes', { group: 'g' });
          await two.subscribe(new Pattern('log/**'), () => { throw new Error('no'); });
          await one.publish('__kps/x', 1);
          await one.publishWithReceipt('log/1', { text: 'hello' });
          await page.locator('#watch-form').getByText('All topics').click();
          await page.locator('#watch-form button').click();
          await page.locator('#destination').fill('log/1');
          await page.getByRole('button', { name: 'With ack' }).click();
          await isShown(page, '.outcome', 'handled it');
          await isShown(page, '#messages li', 'hello');
          await page.locator('#messages summary').first().click();
          await isShown(page, '#happened .trouble', 'refused');
          await isShown(page, '#topics tbody tr', 'log/1');
          await check(page, 'busy');
          await openDetails(page, '#clients', 'two');
          await details(page).getByRole('button', { name: 'Disconnect' }).click();
          await check(page, 'a client');
          await page.keyboard.press('Escape');
          await openDetails(page, '#topics', 'log/1');
          await isShown(page, '#details h3', 'Latest messages');
          await isShown(page, '#details h3', 'Present');
          await check(page, 'a topic');
          await page.keyboard.press('Escape');
          await page.getByLabel('Filter clients by id').fill('nobody');
          await isShown(page, '#clients .said', 'No client fits');
          await check(page, 'nothing found');
          await hub.kill();
          await isShown(page, '#notice', 'does not answer');
          await check(page, 'away');
        });

        test(`finds nothing in the way of a token: ${name}`, async (t) => {
          const tokens = await tokenFile(t);
          await tokens.write('[page]\ntoken = "the-token-of-this-page"\n');
          const hub = await serve({ options: ['--tokens', tokens.path] });
          t.after(() => hub.kill());
          const page = await (await pages.browse(t, browser, { colorScheme, viewport })).newPage();
          await page.goto(hub.page);
          await isShown(page, '#login', 'lets in who has a token');
          await check(page, 'a token is needed');
          await page.locator('#token').fill('wrong');
          await page.keyboard.press('Enter');
          await isShown(page, '#login-why', 'does not accept');
          await check(page, 'a wrong one');
          await page.locator('#token').fill('the-token-of-this-page');
          await page.keyboard.press('Enter');
          await isShown(page, '#notice', 'does not show its figures');
          await check(page, 'little is allowed');
        });
      }
    }
  });

  test('nothing is cut off in the details on a phone', async (t) => {
    const page = await openConsole(t, { viewport: { width: 360, height: 740 } });
    const client = await connect(t, { id: 'x'.repeat(300) });
    await client.subscribe('y'.repeat(300), () => {});
    await page.locator('#clients tbody').getByRole('button', { name: 'xxx' }).click();
    await isShown(page, '#details li', 'yyy');
    assert.deepEqual(await cutAt(page, 360, '#details :is(dd, dt, .alien, button, h2)'), []);
    assert.ok(await page.evaluate(() => document.querySelector('#details').scrollWidth <= innerWidth));
  });
});

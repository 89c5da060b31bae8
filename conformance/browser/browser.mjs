// A headless Chromium that can reach nothing but this machine, and pages that tell on themselves.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const REPORTS = join(import.meta.dirname, 'reports');
const WAIT_MS_MAX = 30_000;
const BACK_MS_MAX = 60_000;

export class Browser {
  #chromium;
  #profile;

  static async start() {
    await mkdir(REPORTS, { recursive: true });
    const browser = new Browser();
    browser.#profile = await mkdtemp(join(tmpdir(), 'switchboard-chromium-'));
    browser.#chromium = await chromium.launchPersistentContext(browser.#profile, {
      executablePath: process.env.SWITCHBOARD_CHROMIUM ?? '/usr/bin/chromium',
      headless: true,
      args: [
        '--no-sandbox',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--no-first-run',
        '--no-pings',
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
      ],
    });
    return browser;
  }

  /** A window with storage of its own; its pages are watched. See `Visit`. */
  async visit(options = {}) {
    const context = await this.#chromium.browser().newContext({ viewport: { width: 1440, height: 900 }, ...options });
    context.setDefaultTimeout(WAIT_MS_MAX);
    return new Visit(context);
  }

  async close() {
    await this.#chromium.close();
    await rm(this.#profile, { recursive: true, force: true });
  }
}

/** One window: its tabs share storage, as real tabs do. */
export class Visit {
  #faults = [];
  #addresses = new Set();
  #excused = [];

  constructor(context) {
    this.context = context;
    context.on('page', (page) => this.#watch(page));
  }

  async open(url) {
    const page = await this.context.newPage();
    await page.goto(url);
    return new Tab(page);
  }

  /** From here on, console errors that match `pattern` are expected. */
  excuse(pattern) {
    this.#excused.push(pattern);
  }

  #watch(page) {
    page.on('console', (message) => {
      if (message.type() !== 'error' && message.type() !== 'warning') return;
      if (this.#excused.some((pattern) => pattern.test(message.text()))) return;
      this.#faults.push(`console ${message.type()}: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.#faults.push(`uncaught: ${error.stack}`));
    page.on('request', (request) => this.#addresses.add(new URL(request.url()).hostname));
    page.on('websocket', (socket) => this.#addresses.add(new URL(socket.url()).hostname));
  }

  /** No console error, no uncaught error, no request to any other machine. */
  async end() {
    await this.context.close();
    assert.deepEqual(this.#faults, []);
    assert.deepEqual([...this.#addresses], ['127.0.0.1']);
  }
}

/** One tab with the playground in it, in the words of someone who uses it. */
export class Tab {
  constructor(page) {
    this.page = page;
  }

  at(id) {
    return this.page.getByTestId(id);
  }

  async joined(options) {
    await this.page.locator('[data-testid=room-phase][data-phase=joined]').waitFor(options);
  }

  async back() {
    await this.joined({ timeout: BACK_MS_MAX });
  }

  async atStep(step) {
    await this.page.locator(`[data-testid=step-${step}][aria-current=step]`).waitFor();
  }

  async say(text) {
    await this.at('message').fill(text);
    await this.at('send').click();
  }

  /** The rows whose words hold `text`. A whole row's text runs on: "message 70" at 07:00 would read "message 7007:00". */
  said(text) {
    return this.at('said').filter({ has: this.page.locator('.bubble', { hasText: text }) });
  }

  async hears(text) {
    await this.said(text).first().waitFor();
  }

  async divider(kind) {
    const divider = this.page.locator(`[data-testid=divider][data-kind=${kind}]`).last();
    await divider.waitFor();
    return divider.innerText();
  }

  frames(direction, type) {
    return this.page.locator(`[data-testid=frame][data-direction=${direction}][data-type="${type}"]`);
  }

  /** The texts of all rows in the conversation, without times and offsets. */
  async transcript() {
    return this.page.locator('[data-testid=rows] > li').evaluateAll((rows) => rows.map((row) =>
      (row.dataset.kind ? `(${row.innerText.trim()})` : (row.querySelector('.bubble') ?? row).innerText.trim())));
  }

  async picture(name) {
    // The cord swings to its jack; a picture shows where it comes to rest.
    await this.page.evaluate(() => Promise.allSettled(document.getAnimations()
      .filter((animation) => Number.isFinite(animation.effect.getComputedTiming().endTime)).map((animation) => animation.finished)));
    await this.page.screenshot({ path: join(REPORTS, `${name}.png`) });
  }
}

// A page whose connection a test takes away.

/** Lend the page another WebSocket, and load it again with that. */
export async function lend(page) {
  await page.addInitScript(() => {
    window.sockets = [];
    window.WebSocket = class extends WebSocket {
      constructor(url) {
        super(window.isAway ? 'ws://127.0.0.1:1/' : url); // where nobody listens
        window.sockets.push(this);
      }
    };
  });
  await page.reload();
}

/** End the connection, and let no other one be made until `comeBack`. */
export const goAway = (page) => page.evaluate(() => {
  window.isAway = true;
  for (const socket of window.sockets) socket.close();
});

export const comeBack = (page) => page.evaluate(() => { window.isAway = false; });

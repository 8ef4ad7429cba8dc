// The same package for programs that are CommonJS. Only compiled, never run.

import kps = require('kps-client');

export const client: kps.Client = new kps.Client('h:1', { onError: (error) => error instanceof kps.KPSError });
export const ack: kps.ClientAck = client.PublishWithAck('t', 1);

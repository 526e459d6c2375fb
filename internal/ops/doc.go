// Package ops is what an operator sees of a worker over HTTP: asynqmon's page under "/", and without login /healthz, /readyz
// and /metrics.
//
// asynqmon brings no login, no security headers and buttons that would end recalls without an outcome. This package puts all
// of that in front of it: a password, same origin, a read-only page unless asked otherwise, and only those actions that
// leave a recall to its end. Payloads and results are shown as a person reads them, without whole user ids or texts.
package ops

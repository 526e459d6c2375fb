// Package metrics holds the worker's Prometheus metrics, with the names and labels of the contract.
//
// Everything is in a registry of its own; nothing global is used. The values of every label are bounded: a lane's series are
// made when the lane is made known, with all the values that they can have, so that an alert on a rate sees the first event
// too, and a word that nobody foresaw counts as "other".
//
// Outcomes, calls and waits are this process's own, to be summed over the workers. The queues' figures are read from Redis,
// so that every worker reports the same ones: use max by there.
package metrics

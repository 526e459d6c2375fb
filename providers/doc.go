// Package providers is the contract between recallq and the five vendor APIs that take messages back.
//
// It holds what every provider shares and nothing that talks to a network: the [Provider] interface, the [Request] and
// [Receipt] of one call, the closed set of [Kind]s a call can fail with ([Fault]), and what is known of each provider
// before any call is made ([Spec]). It imports the standard library only and none of the HTTP clients, so that a push
// system which imports package tasks links none of them.
//
// A provider makes one call and states facts. It never sleeps, loops, counts or decides: retrying, waiting and giving up
// are the business of package retry and of the worker.
package providers

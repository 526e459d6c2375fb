// Package redistest gives a test a real Redis of its own: a redis-server from PATH on a free port of the loopback
// interface with its own folder, which the test can kill, restart with the same data, freeze and thaw. It also runs the
// other forms of Redis: TLS, Unix socket, Sentinel and Cluster.
//
// Where there is no redis-server the test is skipped with a loud line; with RECALLQ_REQUIRE_REDIS=1 in the environment,
// as in CI, it fails instead, so that a green run there means that these tests have run.
package redistest

// Package redisconn turns the redis section of the configuration, or a URL alone, into a client: single Redis, TLS, Unix
// socket, Sentinel and Cluster. It finds out what a Redis is and how well it keeps what it is given ([Inspect]), and watches
// whether it can be used ([Link]).
//
// asynq.ParseRedisURI is not used: it drops the ACL user and a Sentinel URL's database, gives the password to Sentinel
// alone, and knows no CA or client certificate.
//
// Nothing that this package says, in an error or in [Describe], holds a password.
package redisconn

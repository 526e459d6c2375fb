package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/redisconn"
)

const (
	defaultConfig = "recallq.yaml"
	redisURLEnv   = "RECALLQ_REDIS_URL"
	redisEnv      = "RECALLQ_REDIS" // what --redis would be called as every other flag is
	// pingWithin is how long the first answer may take: somebody waits for it.
	pingWithin = 5 * time.Second
)

// redisOptions finds out where Redis is: --redis, RECALLQ_REDIS_URL or RECALLQ_REDIS, the configuration, the default. Its errors are usage.
func (p *program) redisOptions() (redisconn.Options, error) {
	if hasPassword(p.common.redis) {
		return redisconn.Options{}, fmt.Errorf("--redis: a password in the URL shows in the process list and the shell's history; use %s, --redis-password-file or the configuration", redisURLEnv)
	}
	password, err := p.redisPassword()
	if err != nil {
		return redisconn.Options{}, err
	}
	url, err := p.redisURL(password)
	if err != nil {
		return redisconn.Options{}, err
	}
	path := p.configFile(url)
	if path == "" {
		return redisconn.Options{URL: url, Password: password}, nil
	}
	return config.LoadRedis(path, password, func(name string) (string, bool) {
		if name == redisURLEnv && url != "" {
			return url, true
		}
		return p.env(name)
	})
}

// redisPassword reads the file that was given for it; empty if none was.
func (p *program) redisPassword() (string, error) {
	file := p.common.redisPasswordFile
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", p.passwordFlag(), err)
	}
	password := strings.TrimSpace(string(text))
	if password == "" {
		return "", fmt.Errorf("%s %s: is empty", p.passwordFlag(), file)
	}
	return password, nil
}

// passwordFlag is by which name the file of the password was given.
func (p *program) passwordFlag() string {
	if name := envName("redis-password-file"); slices.Contains(p.fromEnv, name) {
		return name
	}
	return "--redis-password-file"
}

// redisURL is what was given outside of the configuration; its error names where. The environment is no process list, so that it may
// hold a password. password is the one from a file, for the user that a URL names.
func (p *program) redisURL(password string) (string, error) {
	url, from := p.common.redis, "--redis"
	for _, name := range []string{redisURLEnv, redisEnv} {
		if url != "" {
			break
		}
		if url, _ = p.env(name); url != "" {
			from = name
			p.uses(name)
		}
	}
	var fault *redisconn.FieldError
	if url == "" || !errors.As(redisconn.Options{URL: url, Password: password}.Check(), &fault) {
		return url, nil
	}
	switch {
	case fault.Field == "username" && from == "--redis":
		return "", fmt.Errorf("--redis: names a user but no password; put it into a file and give --redis-password-file, or give both in %s", redisURLEnv)
	case fault.Field == "username":
		return "", fmt.Errorf("%s: names a user but no password; write user:password@host, or put it into a file and give --redis-password-file", from)
	case fault.Field == "password":
		return "", fmt.Errorf("%s: the URL in %s has a password already; give one of the two", p.passwordFlag(), from)
	}
	return "", fmt.Errorf("%s: %s", from, fault.Reason)
}

// configFile is the configuration to read: the one that was named, or the usual one if nothing else says where Redis is.
func (p *program) configFile(url string) string {
	if p.common.config != "" {
		return p.common.config
	}
	if url != "" {
		return ""
	}
	if _, err := os.Stat(defaultConfig); err != nil {
		return ""
	}
	return defaultConfig
}

// hasPassword finds a password in a URL of any of the forms, also in one that net/url does not take.
func hasPassword(url string) bool {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		rest = url
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 && strings.Contains(rest[:at], ":") {
		return true
	}
	_, query, _ := strings.Cut(rest, "?")
	return strings.Contains(strings.ToLower(query), "password=")
}

// connect returns a client whose Redis has answered. No answer is a failure.
func connect(ctx context.Context, o redisconn.Options) (redis.UniversalClient, error) {
	rdb, err := redisconn.New(o)
	if err != nil {
		return nil, err
	}
	ping, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	if err := rdb.Ping(ping).Err(); err != nil {
		_ = rdb.Close()
		if ctx.Err() != nil {
			return nil, &ended{exitInterrupted, errors.New("interrupted before any row was enqueued")}
		}
		return nil, failure(fmt.Errorf("%s: %s", redisconn.Describe(o), sayRedis(err)))
	}
	return rdb, nil
}

// sayRedis says in words what Redis, or the way to it, answered. What Redis has answered is not called no answer.
func sayRedis(err error) string {
	if text := lacksRight(err); text != "" {
		return text
	}
	text := err.Error()
	for _, known := range []struct{ sign, words string }{
		{"NOAUTH", "Redis wants a password; give it in " + redisURLEnv + ", --redis-password-file or the configuration"},
		{"WRONGPASS", "Redis refuses the user or the password"},
		{"OOM ", "Redis is out of memory and refuses writes; free memory or raise maxmemory"},
		{maxBulkLen, "Redis takes no string that is as long as the batch needs; raise proto-max-bulk-len of Redis (to 128mb)"},
		{"READONLY", "this Redis is a read-only replica and refuses writes; name the primary"},
		{"MISCONF", "Redis cannot save to its disk and refuses writes; see its log"},
		{"LOADING", "Redis is still loading its data; wait until it has"},
		{"CLUSTERDOWN", "the Redis cluster is down"},
		{"DB index is out of range", "Redis has no database of that number; give another one in its URL"},
		{"max number of clients", "Redis takes no more clients; close some, or raise maxclients"},
		{"connection refused", "nothing listens there; start Redis, or name another with --redis or " + redisURLEnv},
		{"no such host", "there is no such host; name another with --redis or " + redisURLEnv},
		{"i/o timeout", "Redis does not answer"},
		{"context deadline exceeded", "Redis does not answer"},
		{"EOF", brokeOff}, {"broken pipe", brokeOff}, {"connection reset", brokeOff},
	} {
		if strings.Contains(text, known.sign) {
			return known.words
		}
	}
	if reply, is := errors.AsType[redis.Error](err); is {
		return "Redis refuses: " + shown(reply.Error())
	}
	if _, is := errors.AsType[net.Error](err); is || strings.Contains(text, "redis:") {
		return "Redis does not answer: " + shown(text)
	}
	return shown(text) // what was read makes no sense
}

// maxBulkLen is in Redis's error for a string that would be longer than it takes.
const maxBulkLen = "proto-max-bulk-len"

const brokeOff = "the connection to Redis broke off"

var refusedCommand = regexp.MustCompile(`NOPERM .*to run the '([^']+)' command`)

// lacksRight says in words that the user of Redis lacks a right, and which; empty if that is not what an error is about.
func lacksRight(err error) string {
	const widen = "; widen its ACL"
	text := err.Error()
	switch found := refusedCommand.FindStringSubmatch(text); {
	case found != nil:
		return "this user of Redis lacks the right to run " + shown(strings.ToUpper(strings.ReplaceAll(found[1], "|", " "))) + widen
	case strings.Contains(text, "NOPERM") && strings.Contains(text, "channel"):
		return "this user of Redis lacks the right to a channel that this needs" + widen
	case strings.Contains(text, "NOPERM") && strings.Contains(text, "key"):
		return "this user of Redis lacks the right to a key that this needs" + widen
	case strings.Contains(text, "The user executing the script can't"), strings.Contains(text, "ACL failure in script"):
		return "this user of Redis lacks the right to a command or a key that this needs" + widen
	case strings.Contains(text, "NOPERM"):
		return "this user of Redis lacks a right that this needs" + widen
	}
	return ""
}

// trouble is what an error of Redis means for a run.
type trouble int

const (
	away     trouble = iota // Redis does not answer, and may come back
	refusing                // Redis is there and refuses for the moment: it is loading, or a replica on its way to be the primary
	lasting                 // Redis is there and refuses; waiting does not help
	single                  // Redis is well; it is about one row
)

// judge tells them apart, and says in words what is wrong. asynq hands Redis's errors on as text only, so text is what there
// is to go by.
func judge(ctx context.Context, rdb redis.UniversalClient, err error) (trouble, string) {
	if text := lacksRight(err); text != "" {
		return lasting, text
	}
	text := err.Error()
	for _, sign := range []string{"NOAUTH", "WRONGPASS", "OOM ", "MISCONF", maxBulkLen} {
		if strings.Contains(text, sign) {
			return lasting, sayRedis(err)
		}
	}
	for _, sign := range []string{"READONLY", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN"} {
		if strings.Contains(text, sign) {
			return refusing, sayRedis(err)
		}
	}
	if ping := tryPing(ctx, rdb); ping != nil {
		return away, sayRedis(ping)
	}
	return single, sayRedis(err)
}

const (
	// pingEvery is how often a Redis that is away is asked whether it is back.
	pingEvery = 200 * time.Millisecond
	// pongWithin is how soon one that is well answers.
	pongWithin = time.Second
)

func tryPing(ctx context.Context, rdb redis.UniversalClient) error {
	ping, cancel := context.WithTimeout(ctx, pongWithin)
	defer cancel()
	return rdb.Ping(ping).Err()
}

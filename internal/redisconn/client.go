package redisconn

import (
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// What a worker with many asynq servers on one client needs.
const (
	// A Redis on the way to the worker answers within milliseconds; what takes longer is frozen or away, and a stop of the
	// worker, which is to end within 15 s then, waits for a command and its repetition.
	dialTimeout = 3 * time.Second
	readTimeout = 3 * time.Second
	// One repetition rides out a connection that the server has closed meanwhile, or a failover's READONLY.
	maxRetries = 1
	// A lane takes about ten commands at a time at most, and hardly ever at the same moment. Connections are made as needed
	// and given back, so a large pool costs nothing while it is quiet.
	poolSize        = 100
	poolTimeout     = 5 * time.Second
	connMaxIdleTime = 5 * time.Minute
)

// New returns a client for the options. It does not connect: a Redis that is away shows with the first command. Its error is
// that of [Options.Check].
//
// The client is safe for concurrent use; the caller closes it.
func New(o Options) (redis.UniversalClient, error) {
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	return redis.NewUniversalClient(u), nil
}

// NewUnrepeated returns a client as [New] does, which never sends a command twice. asynq's servers need it: a dequeue whose
// answer is lost takes one recall, and its repetition another one, and the first waits until its lease has run out.
func NewUnrepeated(o Options) (redis.UniversalClient, error) {
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	u.MaxRetries = -1
	return redis.NewUniversalClient(u), nil
}

func (o Options) universal() (*redis.UniversalOptions, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	t, _ := o.target()
	tlsConfig, _ := o.tlsConfig(t)
	return &redis.UniversalOptions{
		Addrs: t.addrs, DB: t.db, MasterName: t.master, IsClusterMode: t.form == cluster,
		Username: t.username, Password: t.password, SentinelPassword: o.SentinelPassword,
		TLSConfig: tlsConfig,

		DialTimeout: dialTimeout, DialerRetries: 1, ReadTimeout: readTimeout, WriteTimeout: readTimeout,
		ContextTimeoutEnabled: true, MaxRetries: maxRetries,
		PoolSize: poolSize, PoolTimeout: poolTimeout, ConnMaxIdleTime: connMaxIdleTime,

		// Both would be refused, and logged, by a Redis whose ACL allows only what recallq needs.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}, nil
}

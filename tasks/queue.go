package tasks

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/recallq/recallq/providers"
)

// Priority says which of a lane's two queues a recall waits in.
type Priority string

// The priorities. Urgent recalls have workers of their own and never wait for bulk ones.
const (
	Urgent Priority = "urgent"
	Bulk   Priority = "bulk"
)

func (p Priority) other() Priority {
	if p == Bulk {
		return Urgent
	}
	return Bulk
}

// WakeChannel is the Redis channel on which a producer publishes the name of a queue it has just filled, so that an idle
// worker fetches at once. A lost message costs a second, not a recall.
const WakeChannel = "recallq:wake"

const (
	typePrefix = "recall:"
	bulkSuffix = ":bulk"
)

// TaskType returns the asynq task type of a provider's recalls: "recall:jiguang". asynq's ServeMux matches by prefix, so a
// handler for "recall:tim" would catch all of Tencent: compare the whole type.
func TaskType(provider string) string { return typePrefix + provider }

// Queue returns the name of a lane's queue: "jiguang:news", or "jiguang:news:bulk".
func Queue(provider, app string, p Priority) string {
	if p == Bulk {
		return provider + ":" + app + bulkSuffix
	}
	return provider + ":" + app
}

// ParseQueue takes a queue's name apart. It is false for a queue that is not one of recallq's, which may share the Redis.
func ParseQueue(queue string) (provider, app string, p Priority, ok bool) {
	name, bulk := strings.CutSuffix(queue, bulkSuffix)
	provider, app, found := strings.Cut(name, ":")
	if !found || !slices.Contains(providers.Names(), provider) || CheckApp(app) != nil {
		return "", "", "", false
	}
	if bulk {
		return provider, app, Bulk, true
	}
	return provider, app, Urgent, true
}

var (
	appPattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	batchPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

// CheckApp reports what is wrong with the name of an app. A few words are refused because they mean something else after
// a provider's name in a queue or on a command line.
func CheckApp(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is missing")
	case name == "bulk" || name == "pause" || name == "resume":
		return fmt.Errorf("is a reserved word; choose another name")
	case !appPattern.MatchString(name):
		return fmt.Errorf("is no app name; use up to 63 of a-z, 0-9, _ and -, and begin with a letter or a digit")
	}
	return nil
}

// CheckBatch reports what is wrong with the name of a batch.
func CheckBatch(name string) error {
	if !batchPattern.MatchString(name) {
		return fmt.Errorf("is no batch name; use up to 63 letters, digits, dots, _ and -, and begin with a letter or a digit")
	}
	return nil
}

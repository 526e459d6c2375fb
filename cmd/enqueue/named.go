package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/tasks"
)

// book is the ledger in Redis, for the subcommands about batches.
type book struct {
	*ledger.Ledger
	p     *program
	rdb   redis.UniversalClient
	where string // Redis, for messages
}

func (p *program) bookOn(rdb redis.UniversalClient, where string) *book {
	return &book{ledger.New(rdb), p, rdb, where}
}

func (p *program) openBook(ctx context.Context) (*book, error) {
	o, err := p.redisOptions()
	if err != nil {
		return nil, err
	}
	rdb, err := connect(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			return nil, &ended{exitInterrupted, errors.New("interrupted")}
		}
		return nil, err
	}
	return p.bookOn(rdb, redisconn.Describe(o)), nil
}

// untriedBook is openBook without waiting for an answer of Redis.
func (p *program) untriedBook() (*book, error) {
	o, err := p.redisOptions()
	if err != nil {
		return nil, err
	}
	rdb, err := redisconn.New(o)
	if err != nil {
		return nil, err
	}
	return p.bookOn(rdb, redisconn.Describe(o)), nil
}

func (b *book) close() { _ = b.rdb.Close() }

// now is the time by which batches end and windows close.
func (b *book) now(ctx context.Context) (time.Time, error) {
	now, err := clockOf(ctx, b.rdb, b.p.now)
	if err != nil {
		err = b.failure(err)
	}
	return now, err
}

// published are the lanes that workers have published.
func (b *book) published(ctx context.Context) ([]tasks.Lane, error) {
	lanes, unread, err := publishedLanes(ctx, b.rdb)
	if unread != "" {
		fmt.Fprintln(b.p.stderr, unread)
	}
	return lanes, err
}

// lanes are the published lanes, and behind them those that nobody has published and asynq has queues of: somebody has enqueued for
// them all the same.
func (b *book) lanes(ctx context.Context) ([]tasks.Lane, error) {
	lanes, err := b.published(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := b.rdb.HGetAll(ctx, tasks.LanesKey).Result() // also those that cannot be read, which a worker has served
	if err != nil {
		return nil, err
	}
	queues, err := b.rdb.SMembers(ctx, tasks.QueuesKey).Result()
	if err != nil {
		return nil, err
	}
	slices.Sort(queues)
	for _, queue := range queues {
		provider, app, _, ours := tasks.ParseQueue(queue)
		l := tasks.Lane{Provider: provider, App: app}
		if _, published := entries[l.Name()]; published || !ours {
			continue
		}
		entries[l.Name()] = "" // its other queue is not another lane
		lanes = append(lanes, l)
	}
	return lanes, nil
}

// neverServed reports whether nobody has published the lane.
func neverServed(l tasks.Lane) bool { return l.LastSeen.IsZero() }

// publishedLanes reads the lanes that workers have published. One that cannot be read keeps nobody from the others: unread is what
// to say of it.
func publishedLanes(ctx context.Context, rdb redis.Cmdable) (lanes []tasks.Lane, unread string, err error) {
	lanes, err = tasks.Lanes(ctx, rdb)
	if lanes != nil && err != nil {
		return lanes, "warning: " + shown(err.Error()), nil
	}
	return lanes, "", err
}

// failure says what went wrong in Redis, and where.
func (b *book) failure(err error) error {
	return failure(fmt.Errorf("%s: %s", b.where, sayRedis(err)))
}

// named reads a batch. For one that there is not, the error names those that were perhaps meant.
func (b *book) named(ctx context.Context, name string) (ledger.Batch, error) {
	found, err := b.Batch(ctx, name)
	if err == nil {
		return found, nil
	}
	if !errors.Is(err, ledger.ErrNoBatch) {
		return found, b.failure(err)
	}
	names, err := b.rdb.ZRevRange(ctx, tasks.BatchesKey, 0, -1).Result()
	if err != nil {
		return found, b.failure(err)
	}
	return found, failure(noBatch(name, names))
}

// noBatch is the error for a name that no batch has.
func noBatch(name string, names []string) error {
	hint := "enqueue batches lists them, and each is kept 7 days after its latest recall_by"
	if len(names) == 0 {
		hint = "there is none in this Redis"
	}
	if near := nearest(name, names, 3); len(near) > 0 {
		hint = "did you mean " + shown(strings.Join(near, " or ")) + "?"
	}
	return fmt.Errorf("there is no batch %q; %s", name, hint)
}

// nearest returns the names that are most like a name, at most so many of them. Of names that are equally near the earlier
// goes first.
func nearest(name string, names []string, most int) []string {
	type candidate struct {
		name     string
		distance int
	}
	var list []candidate
	for _, n := range names {
		d := editDistance(strings.ToLower(name), strings.ToLower(n))
		if len(name) >= 3 && strings.Contains(strings.ToLower(n), strings.ToLower(name)) {
			d = min(d, 1)
		}
		if d <= max(2, len(name)/4) {
			list = append(list, candidate{n, d})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	near := make([]string, 0, most)
	for _, c := range list[:min(most, len(list))] {
		near = append(near, c.name)
	}
	return near
}

// editDistance is how many bytes have to be inserted, dropped or replaced to make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			step := diagonal
			if a[i] != b[j] {
				step++
			}
			row[j+1] = min(step, above+1, row[j]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}

// oneBatch are the arguments of subcommands that are about one batch.
func oneBatch(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("give the name of one BATCH; enqueue batches lists them")
	}
	if err := tasks.CheckBatch(args[0]); err != nil {
		return fmt.Errorf("the batch %q %w", args[0], err)
	}
	return nil
}

// writeHash prints a batch's hash as one JSON object, whole numbers as numbers, with the batch's name in front and what is
// open or lost beside it.
func writeHash(w io.Writer, b ledger.Batch, now time.Time) error {
	hash := hashOf(b, now)
	out := []byte{'{'}
	for i, key := range hashOrder(hash) {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := json.Marshal(key)
		if err != nil {
			return err
		}
		value, err := json.Marshal(hash[key])
		if err != nil {
			return err
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	if _, err := w.Write(append(out, "}\n"...)); err != nil {
		return failure(fmt.Errorf("the result could not be written: %w", err))
	}
	return nil
}

func hashOf(b ledger.Batch, now time.Time) map[string]any {
	hash := map[string]any{"batch": b.Name, "open": b.Open - b.Lost(now), "lost": b.Lost(now)}
	for field, text := range b.Fields {
		hash[field] = text
		texts := field == "reason" || strings.HasSuffix(field, "_by") || strings.HasPrefix(field, tasks.LaneField)
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && !texts {
			hash[field] = n
		}
	}
	return hash
}

// hashOrder puts what people look for first.
func hashOrder(hash map[string]any) []string {
	first := []string{"batch", "created_by", "created_at", "reason", "inputs", "reading", "total"}
	first = append(append(first, tasks.Outcomes()...), tasks.Duplicate, "open", "lost")
	order := slices.DeleteFunc(first, func(key string) bool { _, have := hash[key]; return !have })
	for _, key := range slices.Sorted(maps.Keys(hash)) {
		if !slices.Contains(order, key) {
			order = append(order, key)
		}
	}
	return order
}

// sums says in one line how a batch adds up.
func sums(b ledger.Batch, now time.Time) string {
	line := fmt.Sprintf("total %d =", b.Total)
	for i, outcome := range tasks.Outcomes() {
		plus := " +"
		if i == 0 {
			plus = ""
		}
		line += fmt.Sprintf("%s %s %d", plus, outcome, b.Outcomes[outcome])
	}
	what := "open"
	if b.Lost(now) > 0 {
		what = "lost"
	}
	return line + fmt.Sprintf(" + duplicate %d + %s %d", b.Duplicate, what, b.Open)
}

// recalls counts recalls in words.
func recalls(n int64) string {
	if n == 1 {
		return "1 recall"
	}
	return thousands(n) + " recalls"
}

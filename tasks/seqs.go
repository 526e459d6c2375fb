package tasks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// seqs hands out sequence numbers, taken from the batch in blocks. It is safe for concurrent use.
type seqs struct {
	rdb redis.Scripter
	key string

	mu      sync.Mutex
	free    []int64
	block   int64
	highest int64 // the last number that was ever taken
	failed  sharedFailure
}

const (
	// Blocks grow, so that a single recall leaves no large hole in the batch's bytes.
	firstBlock = 8
	mostBlock  = 512
	// beyond is how far the numbers go on behind the highest one known, in a Redis that has forgotten what was taken: others that run at
	// the same time may have taken more.
	beyond = 1 << 16
)

// takeSeqsScript takes a block of numbers.
//
// KEYS[1] the batch's hash; ARGV[1] how many, ARGV[2] the highest that the caller has ever taken, ARGV[3] how far to go beyond it
// if Redis came back without its last writes
//
// Returns the last number of the block.
var takeSeqsScript = redis.NewScript(`
local last = tonumber(redis.call("HGET", KEYS[1], "next_seq") or 0)
if last < tonumber(ARGV[2]) then
	redis.call("HSET", KEYS[1], "next_seq", ARGV[2] + ARGV[3])
elseif ARGV[1] == "0" then
	return last
end
return redis.call("HINCRBY", KEYS[1], "next_seq", ARGV[1])`)

func (s *seqs) take(ctx context.Context) (int64, error) {
	came := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		if err := s.failed.since(came); err != nil {
			return 0, err
		}
		s.block = min(max(2*s.block, firstBlock), mostBlock)
		last, err := s.takeBlock(ctx, s.block)
		if err != nil {
			s.failed.note(ctx, err)
			return 0, err
		}
		if last > MaxSeq {
			return 0, errors.New("the batch is full; use another name for the rest")
		}
		for seq := last; seq > last-s.block; seq-- {
			s.free = append(s.free, seq)
		}
		s.highest = last
	}
	seq := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return seq, nil
}

func (s *seqs) takeBlock(ctx context.Context, size int64) (int64, error) {
	last, err := takeSeqsScript.Run(ctx, s.rdb, []string{s.key}, size, s.highest, beyond).Int64()
	if err != nil {
		return 0, fmt.Errorf("numbering recalls of %s: %w", s.key, err)
	}
	return last, nil
}

// keep makes sure that nobody is given a number that this process was, also after Redis has forgotten.
func (s *seqs) keep(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.highest == 0 {
		return nil
	}
	_, err := s.takeBlock(ctx, 0)
	return err
}

func (s *seqs) giveBack(seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, seq)
}

// LostError says that Redis does not know any more of recalls that were enqueued: it came back without its last writes, as after a
// restart without an append-only file, or when a replica that was behind took over. To enqueue the same recalls again mends it.
type LostError struct {
	Batch string
	Lost  int // how many
}

func (e *LostError) Error() string {
	return fmt.Sprintf("redis came back without its last writes and has lost %d recalls of the batch %s; enqueue them again", e.Lost, e.Batch)
}

// Check waits until everything that was enqueued so far is counted, like [Batch.Flush], and looks whether Redis still knows of it.
// The error is a [LostError] if it does not. What was once found to be there is not looked for again.
func (b *Batch) Check(ctx context.Context) error {
	if err := b.beginAgain(ctx); err != nil {
		return err
	}
	if err := b.seqs.keep(ctx); err != nil {
		return err
	}
	used := b.used.takeAll() // before it is counted: what comes meanwhile is for the next time
	err := b.Flush(ctx)
	lost := 0
	if err == nil {
		lost, err = used.missing(ctx, b.producer.rdb, bytesKey(b.name))
	}
	if err != nil {
		b.used.putBack(used)
		return err
	}
	if lost > 0 {
		return &LostError{b.name, lost}
	}
	return nil
}

// numbers is a set of sequence numbers that takes a bit for each. It is safe for concurrent use.
type numbers struct {
	mu    sync.Mutex
	pages pages
}

// pageSize is how many numbers a page has.
const pageSize = 4096

type pages map[int64]*[pageSize / 64]uint64

func (n *numbers) add(seq int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pages == nil {
		n.pages = pages{}
	}
	page := n.pages[seq/pageSize]
	if page == nil {
		page = new([pageSize / 64]uint64)
		n.pages[seq/pageSize] = page
	}
	page[seq%pageSize/64] |= 1 << (seq % 64)
}

// takeAll empties the set and returns what was in it.
func (n *numbers) takeAll() pages {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.pages
	n.pages = nil
	return all
}

func (n *numbers) putBack(all pages) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, page := range all {
		have := n.pages[i]
		if have == nil {
			if n.pages == nil {
				n.pages = pages{}
			}
			n.pages[i] = page
			continue
		}
		for word := range page {
			have[word] |= page[word]
		}
	}
}

// pagesAtOnce is how many pages of a batch's bytes are read in one round trip.
const pagesAtOnce = 64

// missing counts the numbers that a batch's bytes do not have.
func (p pages) missing(ctx context.Context, rdb redis.Cmdable, key string) (int, error) {
	lost := 0
	reads := map[int64]*redis.StringCmd{}
	read := func() error {
		_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i := range reads {
				reads[i] = pipe.GetRange(ctx, key, i*pageSize, (i+1)*pageSize-1)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("looking for what was counted in %s: %w", key, err)
		}
		for i, cmd := range reads {
			lost += missingOf(p[i], []byte(cmd.Val()))
		}
		clear(reads)
		return nil
	}
	for i := range p {
		if reads[i] = nil; len(reads) == pagesAtOnce {
			if err := read(); err != nil {
				return 0, err
			}
		}
	}
	if len(reads) > 0 {
		if err := read(); err != nil {
			return 0, err
		}
	}
	return lost, nil
}

// missingOf counts the numbers of a page that have no byte.
func missingOf(page *[pageSize / 64]uint64, counted []byte) int {
	counted = append(bytes.Clone(counted), make([]byte, pageSize-len(counted))...)
	lost := 0
	for i, b := range counted {
		if b == 0 && page[i/64]&(1<<(i%64)) != 0 {
			lost++
		}
	}
	return lost
}

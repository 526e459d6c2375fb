package tasks

import "context"

// Two producers that enqueue the same recall at the same moment with different priorities find it in neither queue and write both:
// the queues live in different slots of a Redis Cluster, so that nothing can look at one and write to the other in one step. So each
// looks into the other queue once more after it has written; one of them at least then sees both.

// oneTask makes one task of a recall and its twin, if there is one. The urgent task stays, unless a worker has the other in its hands.
// It returns the twin if that is the one that stays. Once there is one, the end of the caller's context does not keep it from that.
func (p *Producer) oneTask(ctx context.Context, t task, own Recall, pr Priority) (stays *copyOf, err error) {
	elsewhere := Queue(own.Provider, own.App, pr.other())
	if twin, err := p.find(ctx, elsewhere, t.id); err != nil || twin.verdict() == absent {
		// The recall is in its queue. That it cannot be seen whether there is a twin, which is hardly ever so, is no reason to fail.
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.rescueFor)
	defer cancel()
	for range looks {
		twin, err := p.find(ctx, elsewhere, t.id)
		if err != nil {
			return nil, err
		}
		var done bool
		switch v := twin.verdict(); {
		case v == absent, v == failed:
			return nil, nil
		case v == waiting && pr == Urgent:
			if done, _, err = p.remove(ctx, twin); err == nil && done {
				return nil, p.giveWay(ctx, twin, own)
			}
		default:
			var taken bool
			if done, taken, err = p.withdraw(ctx, t, twin.recall); err == nil && done {
				return &twin, nil
			}
			if err == nil && taken && v == waiting {
				done, _, err = p.remove(ctx, twin)
			}
			// If workers have both, the vendor is asked twice, and the batch still counts it once.
			if err == nil && taken && (done || v == settled) {
				return nil, p.giveWay(ctx, twin, own)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// withdraw removes the task that was just written, unless a worker has taken it. Others who enqueue the recall may have seen it, and count
// it under its number, or as its duplicate: they find its id there. If it is neither gone nor taken, it has changed meanwhile.
func (p *Producer) withdraw(ctx context.Context, t task, winner Recall) (gone, taken bool, err error) {
	c, err := p.look(ctx, t.queue, t.id)
	switch {
	case err != nil:
		return false, false, err
	case c.state == "":
		return true, false, nil // its twin's producer was faster
	case c.verdict() != waiting:
		return false, true, nil
	}
	done, _, err := p.removeUnnoted(ctx, c)
	if err != nil || !done || c.recall.Batch == "" || c.recall.Seq == 0 {
		return done, false, err
	}
	if err := p.win(ctx, winner, c); err != nil {
		return true, false, err
	}
	return true, false, p.insist(ctx, c.recall.Batch, Count{Seq: c.recall.Seq, ID: c.id}, Count{Seq: c.recall.Seq, ID: c.id, As: renumbered})
}

// win tells the batch of a winner that it is no duplicate of c, which is gone: others who enqueue it in that batch may have met c.
func (p *Producer) win(ctx context.Context, winner Recall, c copyOf) error {
	lost := Number{c.recall.Batch, c.recall.Seq}
	if winner.Batch == "" || winner.Seq == 0 || winner.Batch == lost.Batch || !lost.known() {
		return nil
	}
	return p.insist(ctx, winner.Batch,
		Count{Seq: winner.Seq, ID: c.id, Of: lost}, Count{Seq: winner.Seq, ID: c.id, As: Open, RecallBy: winner.RecallBy})
}

// giveWay has the batch of a copy count that another task, winner, is the recall's now: as the same recall if that is of the same batch,
// else as its duplicate.
func (p *Producer) giveWay(ctx context.Context, c copyOf, winner Recall) error {
	loser := c.recall
	if loser.Batch == "" || loser.Seq == 0 || loser.Batch == winner.Batch && loser.Seq == winner.Seq {
		return nil
	}
	if err := p.win(ctx, winner, c); err != nil {
		return err
	}
	if loser.Batch == winner.Batch && winner.Seq > 0 {
		return p.insist(ctx, loser.Batch, // known by both numbers: other batches may have met either
			Count{Seq: loser.Seq, ID: c.id}, Count{Seq: loser.Seq, ID: c.id, As: renumbered}, Count{Seq: winner.Seq, ID: c.id, As: Open, stays: true, RecallBy: winner.RecallBy})
	}
	if err := p.note(ctx, c); err != nil {
		return err
	}
	return p.insist(ctx, loser.Batch, Count{Seq: loser.Seq, ID: c.id, As: Duplicate, Of: Number{winner.Batch, winner.Seq}, RecallBy: loser.RecallBy})
}

// insist counts what nobody else would count: a task is gone already. It tries again while Redis is away for a moment.
func (p *Producer) insist(ctx context.Context, batch string, counts ...Count) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.rescueFor)
	defer cancel()
	for wait := rescueFirst; ; wait = min(2*wait, rescueMost) {
		_, err := CountIn(ctx, p.rdb, batch, counts...)
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, wait)
	}
}

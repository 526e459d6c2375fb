package tasks

import "time"

// SetRescue shortens how long a producer tries to write a recall that is nowhere.
func (p *Producer) SetRescue(d time.Duration) { p.rescueFor = d }

// Wakes are the messages that wake idle workers.
type Wakes = wakes

// Due reports whether to wake a queue's workers now.
func (w *wakes) Due(queue string, later func()) bool { return w.due(queue, later) }

// TakeAll takes all messages that are on their way.
func (w *wakes) TakeAll() []string { return w.takeAll() }

// AgeOthers makes what a batch knows of others older than it is.
func (b *Batch) AgeOthers(by time.Duration) { b.others.age(by) }

// AgeDue makes the times that a producer has told older than they are.
func (p *Producer) AgeDue(by time.Duration) {
	for key, at := range p.due.told {
		p.due.told[key] = at.Add(-by)
	}
}

// Renumbered is what the number of the task that went counts as.
const Renumbered = renumbered

// Staying makes a count that of the task that is left of two.
func Staying(c Count) Count {
	c.stays = true
	return c
}

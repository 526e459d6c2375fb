package tasks

import "time"

// SetRescue shortens how long a producer tries to write a recall that is nowhere.
func (p *Producer) SetRescue(d time.Duration) { p.rescueFor = d }

// Renumbered is what the number of the task that went counts as.
const Renumbered = renumbered

// Staying makes a count that of the task that is left of two.
func Staying(c Count) Count {
	c.stays = true
	return c
}

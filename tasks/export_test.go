package tasks

import "time"

// SetRescue shortens how long a producer tries to write a recall that is nowhere.
func (p *Producer) SetRescue(d time.Duration) { p.rescueFor = d }

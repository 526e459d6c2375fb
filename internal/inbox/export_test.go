package inbox

import "time"

// TakeOver changes how soon entries count as left alone, and how often they are looked for.
func (in *Inbox) TakeOver(deadAfter, every time.Duration) {
	in.deadAfter, in.takeoverEvery = deadAfter, every
}

// Forget changes how long consumers without entries are kept.
func (in *Inbox) Forget(after time.Duration) { in.forgetAfter = after }

// ProducersWords turns a reason into a producer's words.
func ProducersWords(reason string) string { return producersWords(reason) }

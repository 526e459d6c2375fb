package main

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// sample is one recall of the demo, with what the simulated vendor does about it.
type sample struct {
	story   string // what the vendor does, for people
	want    string // the outcome it has to lead to
	recall  tasks.Recall
	message simulator.Message // known to the vendor; without an id it is not
	fault   simulator.Fault   // what calls for it run into
	cancel  bool              // somebody cancels its batch before it is called
	ended   ended
}

// ended is how the recall ended, as the stream of outcomes told it.
type ended struct{ outcome, code, attempts, err string }

const (
	// closingSoon is how long the window of a sample that is to expire is still open.
	closingSoon = 6 * time.Second
	untilGone   = 1000 // so often that the window closes first
)

// samples returns recalls of every outcome that the vendors' documents allow, and some that need retries.
func samples(now time.Time) []*sample {
	var list []*sample
	for i, spec := range providers.Specs() {
		b := &builder{spec: spec, now: now, next: 1000 * (i + 1)}
		b.common()
		switch spec.Name {
		case providers.Jiguang:
			b.recalledBefore("was recalled before (1015055)")
			b.fault("invalid parameter (4004)", tasks.Rejected, 1, simulator.Behaviour{Code: "4004"})
			b.fault("slow down, Retry-After 1 s (429), then ok", tasks.Recalled, 1, simulator.Behaviour{Status: 429, RetryAfter: "1"})
		case providers.EngageLab:
			b.unknown("does not know the message (21003)")
			b.fault("required parameter missing (21002)", tasks.Rejected, 1, simulator.Behaviour{Code: "21002"})
		case providers.TIMPush:
			b.recalledBefore("was recalled before (90050)")
			b.unknown("does not know the push (90049)")
			b.tooOld("its window has closed (90052)")
			b.needsText("wants the offline text (90053)")
		case providers.TIMChat:
			b.recalledBefore("was recalled before (20023)")
			b.unknown("does not know the message (20022)")
			b.fault("does not know the recipient (90003)", tasks.Rejected, 1, simulator.Behaviour{Code: "90003"})
		case providers.RongCloud:
			b.fault("parameter error (1002)", tasks.Rejected, 1, simulator.Behaviour{Code: "1002"})
		}
		list = append(list, b.list...)
	}
	return list
}

// builder makes the samples of one provider.
type builder struct {
	spec providers.Spec
	now  time.Time
	next int
	list []*sample
}

// common are the samples that all five have.
func (b *builder) common() {
	b.add("ok", tasks.Recalled, b.now.Add(-10*time.Minute))
	b.fault("internal error twice, then ok", tasks.Recalled, 2, simulator.Behaviour{Code: "internal"})
	if b.spec.Name != providers.RongCloud {
		b.fault("does it, but the answer is lost; asked again", tasks.AlreadyRecalled, 1,
			simulator.Behaviour{Mode: simulator.ResetAfter, Recall: true})
	}
	s := b.add(fmt.Sprintf("down until the window closes in %s", closingSoon), tasks.Expired, b.now.Add(closingSoon-b.spec.Window))
	s.runsInto(untilGone, simulator.Behaviour{Status: 503})
	b.add("is not asked: the batch was cancelled", tasks.Cancelled, b.now.Add(-10*time.Minute)).cancel = true
}

// add adds a recall of a message that the vendor knows.
func (b *builder) add(story, want string, sentAt time.Time) *sample {
	b.next++
	r := tasks.Recall{Provider: b.spec.Name, App: demoApp, MessageID: b.id(sentAt), SentAt: sentAt, Ref: fmt.Sprintf("demo-%d", b.next)}
	if b.spec.Uses(providers.From) {
		r.From = "service"
	}
	if b.spec.Uses(providers.To) {
		r.To = "user-" + fmt.Sprint(b.next)
	}
	if b.spec.Uses(providers.OfflinePushTitle) {
		r.OfflinePushTitle, r.OfflinePushDesc = "Recalled", "This message was sent by mistake."
	}
	s := &sample{
		story: story, want: want, recall: r,
		message: simulator.Message{Provider: b.spec.Name, ID: r.MessageID, SentAt: sentAt, From: r.From, To: r.To},
	}
	b.list = append(b.list, s)
	return s
}

func (b *builder) fault(story, want string, times int, what simulator.Behaviour) {
	s := b.add(story, want, b.now.Add(-10*time.Minute))
	s.runsInto(times, what)
}

func (s *sample) runsInto(times int, what simulator.Behaviour) {
	s.fault = simulator.Fault{Provider: s.recall.Provider, MessageID: s.recall.MessageID, Times: times, Behaviour: what}
}

func (b *builder) recalledBefore(story string) {
	b.add(story, tasks.AlreadyRecalled, b.now.Add(-10*time.Minute)).message.Recalled = true
}

func (b *builder) unknown(story string) {
	b.add(story, tasks.NotFound, b.now.Add(-10*time.Minute)).message = simulator.Message{}
}

// tooOld is a message that was sent earlier than the producer believed.
func (b *builder) tooOld(story string) {
	b.add(story, tasks.Expired, b.now.Add(-23*time.Hour)).message.SentAt = b.now.Add(-25 * time.Hour)
}

func (b *builder) needsText(story string) {
	s := b.add(story, tasks.Rejected, b.now.Add(-10*time.Minute))
	s.message.NeedsOfflinePush = true
	s.recall.OfflinePushTitle, s.recall.OfflinePushDesc = "", ""
}

// id makes a message id in the vendor's form, with the send time that such ids carry.
func (b *builder) id(sentAt time.Time) string {
	s := sentAt.Unix()
	switch b.spec.Name {
	case providers.Jiguang:
		return fmt.Sprintf("v:1t:%dp:%dn:1", s, b.next)
	case providers.EngageLab:
		return fmt.Sprint(1828250000 + b.next)
	case providers.TIMPush:
		return fmt.Sprintf("%08x_537ed82a_200000cd7ee17f5_%08x_bc614e", s, b.next)
	case providers.TIMChat:
		return fmt.Sprintf("%d_833502_%d", b.next, s)
	}
	return messageUID(sentAt, b.next)
}

// messageUID makes RongCloud's form: 42 bits of milliseconds, 12 of a counter, 4 of the conversation type, 22 of its hash.
func messageUID(sentAt time.Time, n int) string {
	v := big.NewInt(sentAt.UnixMilli())
	v.Lsh(v, 12).Or(v, big.NewInt(int64(n&0xfff)))
	v.Lsh(v, 26).Or(v, big.NewInt(6<<22))
	text := fmt.Sprintf("%016s", strings.ToUpper(v.Text(32)))
	return text[0:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:16]
}

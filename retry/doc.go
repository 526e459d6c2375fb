// Package retry is the policy: what to do about a vendor's answer to a recall, or about the lack of one.
//
// It is pure. [Decide] is given the answer, the attempts so far, the time, the end of the recall window and a number for
// jitter, and returns a value; it knows no clock, Redis, asynq, random source or log. The same call always gives the same
// decision, so the whole policy fits a table: testdata/decisions.txt, which is the place to read it.
//
// Four ideas carry it:
//
//   - The window is the budget. There is no count of retries; a recall is tried until recall_by, and never at or after it.
//   - A wait is not a failure. An answer about the account (its rate, its credentials, its address) closes the lane and
//     is no attempt of the recall that happened to get it.
//   - The vendor's word on waiting is a minimum: nothing is called earlier, and a recall whose window closes before is
//     given up with that reason.
//   - What the lane must learn is said whatever becomes of the recall, also when it is given up.
package retry

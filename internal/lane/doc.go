// Package lane keeps a lane's promises: its limits and its holds, the same for every worker process, in Redis and by Redis's
// clock.
//
// A lane is a provider and an app, one account at one vendor. Before each call the handler asks the lane's gate
// ([Lane.Enter]); after it, it says what came of it ([Lane.Settle]). In between the call counts as in flight.
//
// # Limits
//
// What a vendor limits are arrivals, and a worker cannot know when its request arrives: it may be paused after it was told to
// go, and the network adds its own delay. All that is certain is that it arrives after it was let through and before it is
// answered. So a call counts against every window for all that time, and for one window's length after it. That costs the
// time of one answer in each window, and no scheduling delay can squeeze two calls into one. A worker that dies with a call
// in flight leaves it counted until its lease ends.
//
// # Closed lanes
//
// A lane is closed while it is held (its credentials are refused, its URL is wrong, the vendor is away), throttled, or out of
// slots. Its queues are then left alone ([Dequeuer]): nothing is taken from them, so nothing needs putting back.
//
// A lane that has just been mended, or was never tried, starts slowly: one call in flight, then two, four and so on. Wrong
// credentials so cost one call and not one for each worker.
package lane

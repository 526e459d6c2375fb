// Package simulator is the five vendors' recall APIs over HTTP, for demos, drills, staging and tests.
//
// One [Simulator] serves all five on one listener, told apart by their paths:
//
//	POST   /v1/retract/{msgid}              Jiguang UMS
//	DELETE /v4/push/withdraw/{msg_id}       EngageLab AppPush
//	POST   /v4/timpush/revoke               Tencent TIMPush
//	POST   /v4/openim/admin_msgwithdraw     Tencent Chat, one-to-one
//	POST   /message/broadcast/recall.json   RongCloud
//
// It keeps one state machine (a message is unknown, sent at some time, or recalled), checks credentials as the vendor
// would, enforces the vendors' real rate limits on its own clock, misbehaves on request ([Simulator.Fault]), and writes a
// ledger of every call ([Simulator.Ledger]). A control API under /_sim/ does the same for a separate process.
//
//	sim, err := simulator.New(simulator.Options{})      // sample accounts, real limits
//	srv, err := sim.Listen("127.0.0.1:0")               // srv.URL is the base_url of all five
//	err = sim.Know(simulator.Message{Provider: "jiguang", ID: "v:1t:1603707455p:27133n:2", SentAt: time.Now()})
//	_, err = sim.Fault(simulator.Fault{Provider: "timchat", Times: 2, Behaviour: simulator.Behaviour{Code: "91000"}})
//	...
//	for call := range sim.Calls() { fmt.Println(call.Provider, call.MessageID, call.Code, call.Violation) }
//	srv.Close(); sim.Close()
//
// It is written from the vendors' documents alone and imports no client of recallq, so that a misreading has to be made
// twice to go unnoticed. The standard library is all it needs.
//
// # What is documented and what is a guess
//
// Success bodies and the codes below are the vendors' own. Answers that no document gives are guesses, chosen so that a
// client which handles them handles the real ones too:
//
//   - Jiguang documents no code for an unknown message and none for a closed window: 4004 (invalid parameter), HTTP 400.
//   - EngageLab documents 21003 "msg_id not exist" only: unknown, already recalled and too old all answer that.
//   - RongCloud documents neither unknown, already recalled nor a window: each call is accepted with 200.
//   - Tencent Chat documents no window: a message of any age is recalled.
//   - A message that was recalled answers "already recalled" even after its window.
//   - A limit counts every call that arrives with good credentials, whatever is answered; so hammering does not get through.
//   - Tencent's limit over all APIs of an SDKAppID (60011) is 200 a second here; no number is documented for this API.
//   - RongCloud's calendar day is Asia/Shanghai's.
//
// # Clocks
//
// [Options].Now is the clock that the simulator shares with its clients: UserSigs are judged by it. Messages' ages, windows
// and limits run on the vendor's clock, which is the same one unless it is shifted or sped up by Options.ClockOffset,
// Options.ClockSpeed or [Simulator.Advance]: two days of RongCloud's limits then pass in a test without the clients'
// credentials running out.
package simulator

#!/usr/bin/env bash
# The drill of docs/incident.md: a wrong mailing is taken back, against the simulated vendors. It prints the page:
#
#   docs/incident.sh > docs/incident.md
#
# Needed are go, redis-server, curl and awk. It works in a folder of its own, on free ports, and leaves nothing behind. What a
# command is expected to exit with is checked, and in the end the vendors' own record is compared with ours.
set -euo pipefail

cd "$(dirname "$0")/.."
work=$(mktemp -d)
mkdir "$work/bin" "$work/desk"
go build -o "$work/bin/" ./cmd/worker ./cmd/enqueue ./cmd/simulator

started=()
finish() {
	local pid
	for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT

fail() {
	echo "incident.sh: $*" >&2
	exit 1
}

# until_ok COMMAND...: tries again until it succeeds, for half a minute.
until_ok() {
	local n
	for n in $(seq 300); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.1
	done
	fail "not within 30 s: $*"
}

# --- the site -----------------------------------------------------------------------------------------------------------

export PATH="$work/bin:$PATH" RECALLQ_REDIS_URL="unix://$work/redis.sock?db=0" TZ=UTC
redis-server --port 0 --unixsocket "$work/redis.sock" --dir "$work" --appendonly yes --maxmemory-policy noeviction >"$work/redis.log" &
started+=($!)
until_ok enqueue lanes

now=$(date +%s)
sent=$((now - 2400)) # the messages went out 40 minutes ago

# The messages that were sent, as the vendors know them: chat messages between the shop and 1,500 customers, of which a colleague
# has taken back 20 already; and four pushes, two of them with a copy for those who are offline.
awk -v sent="$sent" 'BEGIN {
	for (n = 1; n <= 1500; n++) {
		from = "shop"; to = sprintf("customer%04d", n)
		if (n % 125 == 7) { from = to; to = "shop" } # answers of customers, in the same export
		if (n % 750 == 40) continue                  # no longer stored by the vendor
		printf "{\"provider\":\"timchat\",\"id\":\"%d_%d_%d\",\"from\":\"%s\",\"to\":\"%s\",\"recalled\":%s}\n",
			n, 70000 + n * 7, sent + n % 60, from, to, (n % 75 == 3 ? "true" : "false")
	}
	for (n = 1; n <= 2000; n++)
		printf "{\"provider\":\"timchat\",\"id\":\"%d_%d_%d\",\"from\":\"shop\",\"to\":\"reader%04d\"}\n", 5000 + n, 90000 + n, sent + n % 60, n
	for (n = 1; n <= 4; n++)
		printf "{\"provider\":\"timpush\",\"id\":\"%08x_5be3_20000%d\",\"needs_offline_push\":%s}\n", sent, n, (n > 2 ? "true" : "false")
}' >"$work/sent.ndjson"

simulator --listen 127.0.0.1:0 --messages "$work/sent.ndjson" --print-config >"$work/printed.yaml" 2>"$work/simulator.log" &
started+=($!)
until_ok grep -q app_secret "$work/printed.yaml"
VENDORS=$(grep -o 'http://127[^ ]*' "$work/simulator.log" | head -1)
export VENDORS
sed 's/app: sim/app: shop/' "$work/printed.yaml" >"$work/recallq.yaml"

# Five customers' accounts are missing at the vendor.
for n in 101 202 303 404 505; do
	id="${n}_$((70000 + n * 7))_$((sent + n % 60))"
	curl -sf -d "{\"provider\":\"timchat\",\"id\":\"$id\",\"code\":\"90003\"}" "$VENDORS/_sim/faults" >/dev/null
done

worker --config "$work/recallq.yaml" --listen 127.0.0.1:0 2>"$work/worker.log" &
started+=($!)
until_ok sh -c 'enqueue lanes | grep -q "^timchat:shop"'

cd "$work/desk"
awk -v sent="$sent" 'function at(t) { return strftime("%Y-%m-%d %H:%M:%S", t + 8 * 3600) }
	BEGIN {
		print "msg_key,sender,receiver,sent"
		for (n = 1; n <= 1500; n++) {
			key = sprintf("%d_%d_%d", n, 70000 + n * 7, sent + n % 60)
			to = sprintf("customer%04d", n)
			if (n == 600) key = "144115198-1795-70"                # the id that the client SDK shows
			if (n == 900) to = ""
			printf "%s,shop,%s,%s\n", key, to, at(sent + n % 60)
		}
	}' >chat.csv 2>/dev/null || fail "awk has no strftime; install gawk or mawk"
awk -v sent="$sent" 'BEGIN { for (n = 1; n <= 4; n++) printf "%08x_5be3_20000%d\n", sent, n }' >push.txt
awk -v sent="$sent" 'BEGIN {
	print "msg_key,sender,receiver"
	for (n = 1; n <= 2000; n++) printf "%d_%d_%d,shop,reader%04d\n", 5000 + n, 90000 + n, sent + n % 60, n
}' >newsletter.csv

# --- the page -----------------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$@"; }

# show COMMAND [CODE]: prints a command as it is typed, what it says, and the exit code that it must have unless that is 0.
show() {
	local code=0
	say '```console' "\$ $1"
	bash -c "$1" </dev/null 2>&1 || code=$?
	if [ "$code" -ne "${2:-0}" ]; then fail "exit code $code, want ${2:-0}: $1"; fi
	if [ "$code" -ne 0 ]; then say '$ echo $?' "$code"; fi
	say '```' ''
}

# picture COMMAND CODE: the same for a command that draws its progress in place. One of the pictures is shown, then its last line.
picture() {
	local code=0
	say '```console' "\$ $1"
	bash -c "$1 --progress always" </dev/null 2>"$work/frames" >"$work/last" || code=$?
	if [ "$code" -ne "$2" ]; then fail "exit code $code, want $2: $1"; fi
	awk 'BEGIN { RS = "\033\\[J" } { frame[NR] = $0 } END { print frame[int(NR / 2)] }' "$work/frames" |
		sed -e 's/\x1b\[[0-9]*[A-Z]//g' -e 's/\r//g' -e 's/ *$//' | sed -e '/./,$!d'
	cat "$work/last"
	if [ "$code" -ne 0 ]; then say '$ echo $?' "$code"; fi
	say '```' ''
}

# counter BATCH NAME: a number of a batch's hash.
counter() { enqueue report "$1" -o json | grep -o "\"$2\":[0-9]*" | cut -d: -f2; }

cat <<'PAGE'
# An incident, from the export to the last recall

Two in the morning. The shop's evening mailing went out with a wrong price: as a chat message from the account `shop` to 1,500 customers
(Tencent Chat), and as four pushes (TIMPush). The person on duty has an export of the chat messages from the database, the
TaskIds of the pushes, and a shell with the `enqueue` program. Workers are running.

This page is what [incident.sh](incident.sh) has printed: it runs the drill against the simulated vendors, with a Redis and a worker of
its own, and every answer below is a real one. `docs/incident.sh > docs/incident.md` makes it again. `RECALLQ_REDIS_URL` says where
Redis is.

## What is in hand

PAGE
show "head -4 chat.csv; wc -l < chat.csv; cat push.txt"
say 'The workers have published their lanes, so that a Redis URL is all that is needed here. All of them are simulated in this drill.' ''
show "enqueue lanes"

cat <<'PAGE'
## Dry run

The export has its own column names, and times without a zone: they are Shanghai's. The dry run checks every row, enqueues nothing, and says
how long it will take. Two rows are not good; `--rejects` keeps them.

PAGE
columns="--provider timchat --columns message_id=msg_key,from=sender,to=receiver,sent_at=sent --time-zone Asia/Shanghai"
show "enqueue --file chat.csv $columns --rejects rejects.ndjson --dry-run" 3

cat <<'PAGE'
## Enqueue

The same command without `--dry-run`, with a name for the batch and the reason. The pushes go into the same batch, and so do the two
rows once they are mended: one has the id that the client SDK shows, the other lacks the receiver. Exit code 3 says that
rows were refused; the others are on their way.

PAGE
show "enqueue --file chat.csv $columns --rejects rejects.ndjson --batch incident-41 --reason 'wrong price in the evening mailing' --by alice" 3
show "enqueue --file push.txt --provider timpush --sent-at 40m --batch incident-41"
show "cat rejects.ndjson"
key600="600_$((70000 + 600 * 7))_$((sent + 600 % 60))"
show "sed -e 's/144115198-1795-70/$key600/' -e '/900_/s/}\$/,\"to\":\"customer0900\"}/' rejects.ndjson > mended.ndjson"
show "enqueue --file mended.ndjson --provider timchat --time-zone Asia/Shanghai --batch incident-41"

cat <<'PAGE'
Had the terminal been closed in the middle, the same command would go on where it stopped: with the same `--batch`, what is in the queue already
is not enqueued twice.

## Watch

On a terminal the picture is drawn again in place, twice a second; this is one moment of it. The last line stays. Ctrl-C stops watching, not
the batch. Exit code 4 says that not everything was taken back.

PAGE
picture "enqueue watch incident-41" 4

cat <<'PAGE'
## Report

What was not taken back, by cause, with what to do about it.

PAGE
show "enqueue report incident-41"

cat <<'PAGE'
## Mend

The two pushes went to people who were offline, too, so the vendor wants the text that replaces the one in their notifications. Of the
messages that it does not know, twelve are customers' answers: the export has `shop` as the sender of all. The rows of both come out of the report as
CSV; sender and receiver of the answers are swapped, and they go in again.

PAGE
show "enqueue report incident-41 -o csv > failed.csv; head -2 failed.csv"
show "awk -F, -v OFS=, 'NR == 1 || \$16 == 90053' failed.csv > pushes.csv"
show "enqueue --file pushes.csv --offline-push-title 'Correction' --offline-push-desc 'The price in our last message was wrong.' --batch incident-41"
show "awk -F, -v OFS=, 'NR > 1 { t = \$5; \$5 = \$6; \$6 = t } NR == 1 || \$16 == 20022' failed.csv > swapped.csv"
show "enqueue --file swapped.csv --batch incident-41"
say 'The pushes took the place of their earlier failures. Who a chat message is from and to is part of what makes a recall the same recall, so the swapped' \
	'ones are new in the batch, and the wrong ones stay on record as not found.' ''

# Now the vendor knows the five accounts.
curl -sf -X DELETE "$VENDORS/_sim/faults" >/dev/null

cat <<'PAGE'
## Retry

Five customers' accounts were missing at the vendor. A colleague has imported them meanwhile, so that these recalls can be tried again as they are.

PAGE
show "enqueue watch incident-41" 4
show "enqueue retry incident-41 --outcome rejected"
show "enqueue watch incident-41" 4
show "enqueue report incident-41"

cat <<'PAGE'
What is left are the rows with the wrong sender, and two messages that the vendor no longer stores. The batch adds up, each recall
counted once, under its last outcome.

## A mistake, cancelled

Somebody enqueues the wrong file.

PAGE
show "enqueue --file newsletter.csv --provider timchat --columns message_id=msg_key,from=sender,to=receiver --batch incident-42 --by bob"
until_ok sh -c 'enqueue report incident-42 -o json | grep -q "\"recalled\":[2-9][0-9][0-9]"'
say 'A few seconds later he sees it.' ''
show "enqueue cancel incident-42 --by bob"
show "enqueue watch incident-42" 4
say 'No call was made after that. What had been taken back by then is taken back for good; the stream of outcomes says which messages that were.' ''
show "enqueue outcomes | grep '\"batch\":\"incident-42\"' | grep -c '\"outcome\":\"recalled\"'"
say 'Had cancelling been the mistake, `enqueue retry incident-42 --outcome cancelled` would bring the rest back.' ''

cat <<'PAGE'
## The next morning

PAGE
show "enqueue batches"
say 'The vendors have a record of their own here, of the messages that calls took back. It agrees with ours.' ''
show "curl -s \$VENDORS/_sim/ledger | grep -c '\"recalled\":true'"

recalled=$(($(counter incident-41 recalled) + $(counter incident-42 recalled)))
vendors=$(curl -s "$VENDORS/_sim/ledger" | grep -c '"recalled":true')
[ "$recalled" -eq "$vendors" ] || fail "our record says $recalled, the vendors' $vendors"
violations=$(curl -s "$VENDORS/_sim/ledger?violations=1" | wc -l)
[ "$violations" -eq 0 ] || fail "$violations calls beyond a limit"
# Rows, and the fourteen that were swapped. Of them all, not taken back: the fourteen as they were, and two as they are now.
[ "$(counter incident-41 total)" -eq $((1504 + 14)) ] || fail "incident-41 has $(counter incident-41 total) recalls"
[ "$(counter incident-41 not_found)" -eq $((14 + 2)) ] || fail "incident-41 has $(counter incident-41 not_found) that were not found"

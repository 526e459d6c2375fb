#!/bin/sh
# Takes messages back from a shell: each line of standard input is a row of input as JSON, and becomes one entry of
# recallq:inbox.
#
#   inbox.sh [--batch NAME] [--urgent] < rows.ndjson
#
#   echo '{"provider":"jiguang","message_id":"18100287000000001","sent_at":"'"$(date -u +%FT%TZ)"'"}' | inbox.sh --urgent
#
# Redis is REDIS_HOST (127.0.0.1) and REDIS_PORT (6379), with REDIS_USER and REDISCLI_AUTH if it wants a user and a password; both
# stay out of the process list that way. The user may be limited to: ACL SETUSER push on >PASSWORD ~recallq:inbox -@all +xadd
#
# It prints the id of each entry. An entry that is refused later is on the stream recallq:outcomes under that id. After an error,
# run it again with the same input: a recall that comes twice is one recall. It needs redis-cli.
set -eu

usage() {
	echo "usage: inbox.sh [--batch NAME] [--urgent] < rows.ndjson" >&2
	exit 2
}

batch=
priority=bulk
while [ $# -gt 0 ]; do
	case $1 in
	--batch) [ $# -ge 2 ] || usage; batch=$2 && shift 2 ;;
	--urgent) priority=urgent && shift ;;
	*) usage ;;
	esac
done

cli() {
	redis-cli -h "${REDIS_HOST:-127.0.0.1}" -p "${REDIS_PORT:-6379}" ${REDIS_USER:+--user "$REDIS_USER"} --no-auth-warning "$@"
}

# Where the password is wrong redis-cli says so, and goes on as the user default, who may be allowed in. So it is asked before
# anything is added. PING itself may be forbidden.
case $(cli PING 2>&1) in
*"AUTH failed"*)
	echo "inbox.sh: not accepted: AUTH failed: wrong user or password" >&2
	exit 1
	;;
esac

# -x takes the last argument from standard input, which keeps the row out of the process list. An "AUTH failed" of now comes first.
add() {
	cli -x XADD recallq:inbox '*' priority "$priority" batch "$batch" row 2>&1
}

while IFS= read -r row || [ -n "$row" ]; do
	[ -n "$row" ] || continue
	answer=$(printf '%s' "$row" | add) || { echo "inbox.sh: $answer" >&2; exit 1; }
	case $answer in
	[0-9]*-[0-9]*) echo "$answer" ;;
	*) # redis-cli succeeds although Redis refuses
		echo "inbox.sh: not accepted: $answer" >&2
		exit 1
		;;
	esac
done

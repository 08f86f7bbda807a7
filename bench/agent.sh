#!/usr/bin/env bash
# Measures the agent; bench/run calls it: agent.sh SANDBOX URL intake|upload|backlog [ROWS]. URL is that of the sandbox's image
# center; the path center is that of PGHOST and PGPORT. What it starts goes to the sandbox's list of processes.
set -euo pipefail
sandbox=${1:?folder} url=${2:?image center} what=${3:?section} rows=${4:-5000000}
top=$(cd "$(dirname "$0")/.." && pwd)
senders=16
work=$sandbox/agent-bench
program=$sandbox/bench-intake
rm -rf "$work"
mkdir -p "$work"
cc -std=gnu11 -O2 -D_GNU_SOURCE -o "$program" "$top/bench/intake.c"

result() { printf '%-60s %12s %s\n' "$1" "$2" "${3:-}"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
free_port() { perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1)->sockport'; }
now() { date +%s%N; }
seconds() { awk -v d=$(($(now) - $1)) 'BEGIN { printf "%.3f\n", d / 1e9 }'; }
# ratio A B: of the medians of the pairs' own ratios, which a machine that is busy with other things disturbs least.
ratio() { paste "$1" "$2" | awk '{ print $1 / $2 }' | median | awk '{ printf "%.2f", $1 }'; }

# agent_config URL CONNINFO [line of image_center]: $work/agent.conf, data in $work/data.
agent_config()
{
	port=$(free_port)
	[ -s "$work/token" ] || (umask 077; echo none >"$work/token")
	cat >"$work/agent.conf" <<-CONF
		[agent]
		device = bench-agent
		token_file = $work/token
		data_dir = $work/data
		[intake]
		listen = 127.0.0.1:$port
		[path_center]
		conninfo = $2
		interval = 100ms
		heartbeat = 1s
		[image_center]
		url = $1
		${3:-}
		[cache]
		listen =
	CONF
}
agent_start()
{
	tms-agent run --config "$work/agent.conf" </dev/null >/dev/null 2>>"$work/agent.log" &
	agent=$!
	echo $agent >>"$sandbox/pids"
	until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		kill -0 $agent || { tail -n 20 "$work/agent.log" >&2; exit 1; }
		read -rt 0.005 <> <(:) || :
	done
}
agent_stop() { kill $agent; wait $agent; }
status() { curl -fsS "http://127.0.0.1:$port/v1/status" | jq -r "$1"; }
sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
nowhere='host=127.0.0.1 port=1 dbname=none user=nobody'

# measure FOLDER COMMAND...: a round; its photographs per second go to FOLDER's file. Pages that it dirtied are given back, so that
# nobody pays for the one before. Nothing is deleted in between: ext4 shuns inodes that were just freed.
measure()
{
	local to=$1
	shift
	"$@" >>"$work/$to"
	sync
	[ "$(id -u)" != 0 ] || echo 1 >/proc/sys/vm/drop_caches
}

# What a sync costs here decides what bounds intake: the CPU or the disk.
tell_disk()
{
	local seconds
	seconds=$(LC_ALL=C dd if=/dev/zero of="$work/synced" bs=4k count=100 oflag=dsync 2>&1 | sed -n 's/.* copied, \(.*\) s, .*/\1/p')
	result "intake: a write of 4 KB and its fdatasync, on $(findmnt -no FSTYPE -T "$work")" "$(awk -v s="$seconds" 'BEGIN { printf "%.2f", s * 10 }')" ms
}

# Sixteen senders against sixteen writers, and against senders to sixteen processes that only receive and write; in turn, and
# in the opposite order every other round.
bench_intake()
{
	local round count=1600 receiver receive_port kind order=
	agent_config http://127.0.0.1:1/captures "$nowhere"
	agent_start
	receive_port=$(free_port)
	mkdir "$work/received"
	"$program" receive "$work/received" "$receive_port" $senders &
	receiver=$!
	echo $receiver >>"$sandbox/pids"
	until (exec 3<>"/dev/tcp/127.0.0.1/$receive_port") 2>/dev/null; do read -rt 0.01 <> <(:) || :; done
	for round in 0 1 2 3 4 5 6 7 8 9 10 11 12; do
		mkdir "$work/written-$round"
		order='write agent receive'
		[ $((round % 2)) = 0 ] || order='receive agent write'
		[ $((round % 4)) -lt 2 ] || order="agent ${order/agent /}"
		for kind in $order; do
			case $kind in
				write) measure write "$program" write "$work/written-$round" $senders $count ;;
				agent) measure agent "$program" post "$port" $senders $count ;;
				receive) measure receive "$program" post "$receive_port" $senders $count ;;
			esac
		done
		[ $round != 0 ] || rm "$work/write" "$work/agent" "$work/receive" # the first warms the memory
	done
	tell_disk
	result "intake: 16 writers of 250 KB, fsync each" "$(median <"$work/write")" images/s
	result "intake: 16 senders to processes that receive, write, fsync" "$(median <"$work/receive")" images/s
	result "intake: 16 senders to the agent" "$(median <"$work/agent")" images/s
	result "intake: agent against writers (at least 0.8)" "$(ratio "$work/agent" "$work/write")"
	result "intake: agent against receivers" "$(ratio "$work/agent" "$work/receive")"
	result "intake: the agent's CPU time" "$(awk -v n=$((13 * count)) '{ printf "%.2f", ($14 + $15) * 10 / n }' /proc/$agent/stat)" ms/image
	kill $receiver $agent
	wait $receiver $agent || :
}

# The same photographs to the same store: a backlog that the agent finds at start, and curl. The agent asks the store afterwards
# for what it has, and writes down each upload; curl does neither.
bench_upload()
{
	local round count=1600 begin
	agent_config http://127.0.0.1:1/captures "$nowhere"
	agent_start
	"$program" post "$port" $senders $count >/dev/null
	agent_stop
	mv "$work/data" "$work/backlog"
	(cd "$work/backlog/cache" && find . -name '*.jpg' -printf "upload-file = \"$work/backlog/cache/%P\"\nurl = \"$url/bench-curl/%P\"\n") >"$work/curl.conf"
	agent_config "$url" "$nowhere"
	for round in 1 2 3 4 5; do
		begin=$(now)
		curl -fsS --no-progress-meter --parallel --parallel-max 8 -K "$work/curl.conf"
		seconds "$begin" >>"$work/curl"
		rm -rf "$work/data"
		cp -a "$work/backlog" "$work/data"
		agent_start
		begin=$(now)
		until [ "$(status .upload.backlog)" = 0 ]; do read -rt 0.02 <> <(:) || :; done
		seconds "$begin" >>"$work/upload"
		agent_stop
		# Both write to empty folders each time.
		rm -rf "${sandbox:?}/store/objects/bench-curl" "${sandbox:?}/store/objects/bench-agent"
	done
	result "upload: curl --parallel --parallel-max 8 -T, $count files" "$(median <"$work/curl")" s
	result "upload: the agent's backlog of the same files" "$(median <"$work/upload")" s
	result "upload: of curl's speed" "$(ratio "$work/curl" "$work/upload")"
}

# A ledger.db with $rows captures that neither center has; their files are not there, nor needed.
make_backlog()
{
	local number
	agent_config http://127.0.0.1:1/captures "$nowhere"
	agent_start
	agent_stop
	number=$(sqlite3 "$work/data/ledger.db" 'SELECT hex(substr(uuid, 1, 4)) FROM ledger')
	number=$(printf '%08x' $((0x$number >> 1)))
	sqlite3 "$work/data/ledger.db" >/dev/null <<-SQL
		PRAGMA synchronous = OFF;
		PRAGMA cache_size = -1000000;
		BEGIN;
		WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < $rows),
			one AS MATERIALIZED (SELECT seq, randomblob(32) AS sha256 FROM n)
		INSERT INTO capture (ledger, seq, bytes, taken_at, captured_at, violation, path, sha256, record)
			SELECT 1, seq, 250000, unixepoch() * 1000000 - ($rows - seq) * 1000, unixepoch() * 1000000 - ($rows - seq) * 1000, 0,
				strftime('%Y/%m/%d/%H', unixepoch() - ($rows - seq) / 1000, 'unixepoch') || '/' || seq || '-' ||
					'$number-' || lower(hex(substr(sha256, 1, 4))) || '.jpg',
				sha256, '{"plate":"WA' || (seq % 100000) || '"}' FROM one;
		UPDATE ledger SET last_seq = $rows;
		COMMIT;
		PRAGMA wal_checkpoint(TRUNCATE);
	SQL
}

bench_backlog()
{
	local begin cache registered token
	make_backlog
	result "backlog: captures in ledger.db" "$rows" "$(($(stat -c %s "$work/data/ledger.db") / 1048576)) MB"
	sync
	for cache in 'cold page cache' 'warm page cache'; do
		[ "$cache" = 'warm page cache' ] || { [ "$(id -u)" = 0 ] && echo 1 >/proc/sys/vm/drop_caches; } || continue
		begin=$(now)
		agent_start
		result "backlog: start until it listens, $cache (at most 2)" "$(seconds "$begin")" s
		agent_stop
	done
	# Intake while it is registered, against intake with none, which begins the next ledger.
	[ "$(sql -c "SELECT count(*) FROM pg_roles WHERE rolname = 'tms_agent'")" = 1 ] || sql -c "SELECT tms.create_agent_role('tms_agent')" >/dev/null
	(umask 077; sql -c "SELECT tms.register_device('bench-agent', 'http://127.0.0.1:9')" >"$work/token")
	agent_config http://127.0.0.1:1/captures "host=127.0.0.1 port=$PGPORT dbname=postgres user=tms_agent"
	agent_start
	registered=$(status .register.backlog) begin=$(now)
	"$program" post "$port" $senders 3200 >"$work/draining"
	"$program" post "$port" $senders 3200 >>"$work/draining"
	registered=$((registered + 6400 - $(status .register.backlog)))
	result "backlog: intake while it is registered" "$(median <"$work/draining")" images/s
	result "backlog: registered meanwhile" "$(awk -v n=$registered -v s="$(seconds "$begin")" 'BEGIN { printf "%.0f", n / s }')" records/s
	result "backlog: most memory resident (at most 64)" "$(awk '/VmHWM/ { printf "%.0f", $2 / 1024 }' /proc/$agent/status)" MB
	agent_stop
	rm -rf "$work/data"
	agent_config http://127.0.0.1:1/captures "$nowhere"
	agent_start
	"$program" post "$port" $senders 3200 >"$work/alone"
	"$program" post "$port" $senders 3200 >>"$work/alone"
	result "backlog: intake without one" "$(median <"$work/alone")" images/s
	agent_stop
}
"bench_$what"

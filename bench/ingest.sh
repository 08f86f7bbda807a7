#!/usr/bin/env bash
# Measures tms.ingest; bench/run calls it: ingest.sh SANDBOX ROWS. The sandbox's PostgreSQL is that of PGHOST and PGPORT.
# What it starts (pgbouncer) goes to the sandbox's list of processes.
set -euo pipefail
sandbox=${1:?folder} rows=${2:-1000000}
top=$(cd "$(dirname "$0")/.." && pwd)
clients='100 2000' calls=20000

cc -std=gnu11 -O2 -D_GNU_SOURCE -pthread $(pkg-config --cflags libpq) -o "$sandbox/bench-ingest" "$top/bench/ingest.c" \
	"$top/agent/ingest_call.c" "$top"/common/{capture_id,capture_record,object_path,sha256}.c -lpq -lcrypto
conninfo="host=$PGHOST port=$PGPORT user=$PGUSER dbname=$PGDATABASE"

psql -XAtqc 'DROP TABLE IF EXISTS tms.capture; DELETE FROM tms.ledger_day' -c 'SELECT tms.create_capture_table()' >/dev/null
"$sandbox/bench-ingest" batches "$conninfo" "$rows"

# pgbouncer in front, in transaction mode; as the user it refuses to run without, when this is root.
pool=$sandbox/pgbouncer
mkdir -p "$pool"
port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1)->sockport')
cat >"$pool/pgbouncer.ini" <<-INI
	[databases]
	* = host=$PGHOST port=$PGPORT
	[pgbouncer]
	listen_addr = 127.0.0.1
	listen_port = $port
	unix_socket_dir =
	auth_type = any
	pool_mode = transaction
	max_client_conn = 4000
	default_pool_size = 16
	logfile = $pool/log
	pidfile = $pool/pid
	log_connections = 0
	log_disconnections = 0
INI
sed -i "s/^\* = .*/& user=$PGUSER/" "$pool/pgbouncer.ini"
as_user=
if [ "$(id -u)" = 0 ]; then
	chown -R postgres "$pool"
	as_user='setpriv --reuid=postgres --regid=postgres --init-groups'
fi
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
$as_user pgbouncer -q "$pool/pgbouncer.ini" &
echo $! >>"$sandbox/pids"
waited=0
until psql -XAtqc 'SELECT 1' "host=127.0.0.1 port=$port user=$PGUSER dbname=$PGDATABASE" >/dev/null 2>&1; do
	[ $((waited += 1)) -lt 100 ] || { tail -n 20 "$pool/log" >&2; exit 1; }
	read -rt 0.1 <> <(:) || :
done
for count in $clients; do
	"$sandbox/bench-ingest" singles "$conninfo" "host=127.0.0.1 port=$port user=$PGUSER dbname=$PGDATABASE" "$count" "$calls"
done
kill "$(cat "$pool/pid")"

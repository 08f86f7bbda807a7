# Sourced by demo/run and bench/run: a private PostgreSQL, image center (nginx; with sandbox_s3.sh, Ceph) and agents in one
# temporary folder.
# Call sandbox_make first; sandbox_end (or the stop script it writes) ends everything that was started, by pid.

sandbox_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# sandbox_make NAME: folder $sandbox, staged programs, and a prefix to run them as a user PostgreSQL accepts.
sandbox_make()
{
	"$sandbox_top/tests/deps" || return 1
	sandbox=$(mktemp -d "${TMPDIR:-/tmp}/tms-$1.XXXXXX")
	chmod 755 "$sandbox"
	sandbox_user=$(id -un) as_user=
	if [ "$(id -u)" = 0 ]; then
		sandbox_user=postgres
		as_user="setpriv --reuid=postgres --regid=postgres --init-groups"
		chown postgres "$sandbox"
	fi
	# Built from a copy, so that a checkout that belongs to somebody else (or is being worked on) stays as it is.
	mkdir "$sandbox/src"
	(cd "$sandbox_top" && tar -cf - --exclude=./.git --exclude=./build --exclude='*.o' --exclude='*.so' .) |
		tar -xf - -C "$sandbox/src"
	"$sandbox/src/tests/stage" "$sandbox/stage" >"$sandbox/build.log" 2>&1 || { tail -n 40 "$sandbox/build.log" >&2; return 1; }
	PATH=$sandbox/stage/bin:$PATH
	export PATH PGHOST=$sandbox PGPORT PGUSER=postgres PGDATABASE=postgres
	PGPORT=$(free_port)
	: >"$sandbox/pids"
	mkdir "$sandbox/store" "$sandbox/store/objects" "$sandbox/store/tmp"
	own "$sandbox/store"
	cat >"$sandbox/stop" <<-STOP
		#!/bin/sh
		# Ends what was started here, by pid, and removes the folder.
		while read -r pid; do kill "\$pid" 2>/dev/null; done <"$sandbox/pids"
		[ ! -e "$sandbox/store/ceph" ] || "$sandbox/src/tests/ceph" "$sandbox/store/ceph" stop
		[ ! -s "$sandbox/store/nginx.pid" ] || kill "\$(cat "$sandbox/store/nginx.pid")" 2>/dev/null
		$as_user "$sandbox/stage/bin/pg_ctl" -D "$sandbox/pgdata" -m fast -w stop >/dev/null 2>&1
		rm -rf "$sandbox"
	STOP
	chmod +x "$sandbox/stop"
}

sandbox_end() { [ -z "${sandbox:-}" ] || [ ! -x "$sandbox/stop" ] || "$sandbox/stop"; }

own() { [ -z "$as_user" ] || chown -R postgres "$@"; }

# A free TCP port on loopback.
free_port()
{
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1)->sockport'
}

# wait_for SECONDS COMMAND...: until it succeeds; fails after the limit.
wait_for()
{
	local end=$(($(date +%s) + $1)); shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		read -rt 0.1 <> <(:) || :
	done
}

sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }

# postgres_start [setting...]: the path center, extension and capture table made.
postgres_start()
{
	(cd "$sandbox" && $as_user initdb -D "$sandbox/pgdata" -A trust -U postgres --locale=C -E UTF8) >"$sandbox/initdb.log" 2>&1 || return 1
	printf '%s\n' "listen_addresses = '127.0.0.1'" "port = $PGPORT" "unix_socket_directories = '$sandbox'" \
		"shared_preload_libraries = 'tms'" "tms.database = 'postgres'" "timezone = 'UTC'" "$@" >>"$sandbox/pgdata/postgresql.conf"
	(cd "$sandbox" && $as_user pg_ctl -D "$sandbox/pgdata" -l "$sandbox/postgresql.log" -w start) >/dev/null || return 1
	sql -c 'CREATE EXTENSION tms' -c 'SELECT tms.create_capture_table()' >/dev/null
}

# store_start: the image center on $store_port, with the lines of $store_modules and $store_locations in its configuration if
# they are set; store_stop ends it.
store_start()
{
	store_port=${store_port:-$(free_port)}
	store_url=http://127.0.0.1:$store_port/captures
	local user=
	[ "$(id -u)" != 0 ] || user="user $sandbox_user;"
	cat >"$sandbox/store/nginx.conf" <<-CONF
		$user
		${store_modules:-}
		worker_processes 2;
		pid $sandbox/store/nginx.pid;
		error_log $sandbox/store/error.log warn;
		events { worker_connections 512; }
		http {
			client_body_temp_path $sandbox/store/tmp;
			proxy_temp_path $sandbox/store/tmp; fastcgi_temp_path $sandbox/store/tmp;
			uwsgi_temp_path $sandbox/store/tmp; scgi_temp_path $sandbox/store/tmp;
			access_log $sandbox/store/access.log;
			sendfile on; tcp_nodelay on; keepalive_requests 1000000; client_max_body_size 64m;
			server {
				listen 127.0.0.1:$store_port;
				location /captures/ {
					alias $sandbox/store/objects/;
					dav_methods PUT DELETE;
					create_full_put_path on;
					autoindex on;
					autoindex_format json;
				}
				${store_locations:-}
			}
		}
	CONF
	/usr/sbin/nginx -p "$sandbox/store" -c "$sandbox/store/nginx.conf" 2>>"$sandbox/store/error.log" || return 1
	wait_for 10 test -s "$sandbox/store/nginx.pid"
}

store_stop()
{
	local pid
	pid=$(cat "$sandbox/store/nginx.pid")
	kill "$pid"
	wait_for 10 sh -c "! kill -0 $pid"
	rm -f "$sandbox/store/nginx.pid"
}

store_kind=nginx
store_hint() { echo "kill \$(cat $sandbox/store/nginx.pid) stops it"; }
# store_objects: how many photographs the image center has.
store_objects() { find "$sandbox/store/objects" -name '*.jpg' | wc -l; }

# server_make: the server image_center and public.capture_image.
server_make()
{
	sql -c "CREATE SERVER image_center FOREIGN DATA WRAPPER tms_fdw OPTIONS (url '$store_url'${store_options:-})" \
		-c "CREATE USER MAPPING FOR PUBLIC SERVER image_center ${store_mapping:-}" \
		-c 'IMPORT FOREIGN SCHEMA tms FROM SERVER image_center INTO public'
}

# agent_start CODE SITE: registers the device and starts its agent; folder $sandbox/CODE, port of intake in CODE/port.
agent_start()
{
	local code=$1 site=$2 dir=$sandbox/$1 cache intake
	cache=$(free_port) intake=$(free_port)
	mkdir -p "$dir/spool" "$dir/data"
	(umask 077; sql -c "SELECT tms.register_device('$code', 'http://127.0.0.1:$cache', site => '$site')" >"$dir/token")
	[ "$(sql -c "SELECT count(*) FROM pg_roles WHERE rolname = 'tms_agent'")" = 1 ] ||
		sql -c "SELECT tms.create_agent_role('tms_agent')" >/dev/null
	echo "$intake" >"$dir/port"
	cat >"$dir/tms-agent.conf" <<-CONF
		[agent]
		device = $code
		token_file = $dir/token
		data_dir = $dir/data
		[intake]
		spool_dir = $dir/spool
		listen = 127.0.0.1:$intake
		[path_center]
		conninfo = host=127.0.0.1 port=$PGPORT dbname=postgres user=tms_agent
		interval = 1s
		heartbeat = 2s
		[image_center]
		url = $store_url
		${store_agent:-}
		[cache]
		listen = 127.0.0.1:$cache
	CONF
	own "$dir"
	$as_user tms-agent run --config "$dir/tms-agent.conf" </dev/null >/dev/null 2>>"$dir/agent.log" &
	echo $! >>"$sandbox/pids"
	wait_for 10 curl -fsS "http://127.0.0.1:$intake/healthz" || { tail -n 20 "$dir/agent.log" >&2; return 1; }
}

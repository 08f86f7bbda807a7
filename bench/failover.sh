# Measures queries for 100 images while the image center fails; bench/run sources it, with its functions and the sandbox.
# Front ends are real agents. Each failure of the center is a server or port of its own, so that each has its own breaker.

failover_n=100 failover_agents='fo-1 fo-2 fo-3'

# The photographs, by way of the agents' intake, until the path center and the image center have them.
failover_feed()
{
	failover_dir=$sandbox/failover
	local agent file n=0 ports=()
	sql -c 'DROP TABLE IF EXISTS tms.capture; DELETE FROM tms.ledger_day' -c 'SELECT tms.create_capture_table()' >/dev/null
	for agent in $failover_agents; do
		agent_start "$agent" "site of $agent"
		ports+=("$(cat "$sandbox/$agent/port")")
	done
	photographs
	for file in "$photos"/*.jpg; do
		[ $n -lt $failover_n ] || break
		curl -fsS -o /dev/null -H 'Content-Type: image/jpeg' --data-binary "@$file" \
			"http://127.0.0.1:${ports[n % ${#ports[@]}]}/v1/captures"
		n=$((n + 1))
	done
	failover_n=$n
	wait_for 60 sh -c "[ \"\$(psql -XAtqc 'SELECT count(*) FROM tms.capture')\" = $n ]"
	wait_for 60 sh -c "[ \"\$(find '$sandbox/store/objects' -path '*/fo-*' -name '*.jpg' | wc -l)\" = $n ]"
}

# Image centers that fail, a port each: error, wrong (bytes), drip (a byte a second); and one that accepts no connection.
failover_centers()
{
	local user= file
	mkdir -p "$failover_dir/wrong"
	cp -r "$sandbox"/store/objects/fo-* "$failover_dir/wrong/"
	find "$failover_dir/wrong" -name '*.jpg' | while read -r file; do printf X | dd of="$file" bs=1 seek=1000 conv=notrunc status=none; done
	chmod -R a+rX "$failover_dir"
	[ "$(id -u)" != 0 ] || user="user $sandbox_user;"
	error_port=$(free_port) wrong_port=$(free_port) drip_port=$(free_port)
	cat >"$failover_dir/nginx.conf" <<-CONF
		$user
		worker_processes 2; pid $failover_dir/nginx.pid; error_log $failover_dir/error.log warn;
		events { worker_connections 512; }
		http {
			access_log off; tcp_nodelay on; keepalive_requests 1000000;
			client_body_temp_path $failover_dir; proxy_temp_path $failover_dir; fastcgi_temp_path $failover_dir;
			uwsgi_temp_path $failover_dir; scgi_temp_path $failover_dir;
			server { listen 127.0.0.1:$error_port; return 500; }
			server { listen 127.0.0.1:$wrong_port; location /captures/ { alias $failover_dir/wrong/; } }
			server { listen 127.0.0.1:$drip_port; location /captures/ { alias $sandbox/store/objects/; limit_rate 1; } }
		}
	CONF
	own "$failover_dir"
	/usr/sbin/nginx -p "$failover_dir" -c "$failover_dir/nginx.conf" 2>>"$failover_dir/error.log"
	wait_for 10 test -s "$failover_dir/nginx.pid"
	cat "$failover_dir/nginx.pid" >>"$sandbox/pids"
	# A full queue of connections that nobody accepts: the kernel drops what comes, as if packets vanished.
	perl -MIO::Socket::INET -e '
		my $l = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1); listen($l, 0);
		my @w = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $l->sockport, Blocking => 0) } 1 .. 4;
		open(my $f, ">", $ARGV[0]); print $f $l->sockport; close($f); sleep;' "$failover_dir/deaf" &
	echo $! >>"$sandbox/pids"
	wait_for 10 test -s "$failover_dir/deaf"
}

failover_query="SELECT count(*) FILTER (WHERE sha256(image) = sha256) FROM capture_image"

# failover_times SETTINGS: milliseconds of the first and the next query of a new session, after checking that both are complete.
failover_times()
{
	psql -XAtq -c "$1" -c '\timing on' -c "$failover_query" -c "$failover_query" | awk -v n="$failover_n" '
		/^Time:/ { printf "%s%.0f", m++ ? " " : "", $2; next }
		$0 != n { print "incomplete: " $0 " of " n > "/dev/stderr"; exit 1 }'
}

bench_failover()
{
	local center port with first next options round script=
	failover_feed
	failover_centers
	sql -c "ALTER SERVER image_center OPTIONS (ADD breaker_failures '5', ADD breaker_cooldown '5s', ADD hedge_after 'off', ADD timeout '3s')"
	result 'failover: photographs, front ends' "$failover_n, $(wc -w <<<"$failover_agents")" '(times of the first and the next query of a session)'
	read -r first next <<<"$(failover_times 'SET tms.image_source = image_center')"
	result 'failover: image center alone, working' "$first $next" ms
	read -r first next <<<"$(failover_times 'SET tms.image_source = front_end')"
	result 'failover: front ends asked directly' "$first $next" ms
	for center in stopped blackholed error wrong drip; do
		case $center in
			stopped) port=$(free_port) ;;
			blackholed) port=$(cat "$failover_dir/deaf") ;;
			error) port=$error_port ;;
			wrong) port=$wrong_port ;;
			drip) port=$drip_port ;;
		esac
		for with in 'neither' 'breaker' 'hedge 100ms' 'breaker, hedge 100ms'; do
			options="SET breaker_failures '$(case $with in breaker*) echo 5 ;; *) echo 0 ;; esac)',
				SET hedge_after '$(case $with in *hedge*) echo 100ms ;; *) echo off ;; esac)'"
			sql -c "ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:$port/captures', $options)" -c 'SELECT tms.breaker_reset()' >/dev/null
			read -r first next <<<"$(failover_times '')"
			result "failover: center $center, $with" "$first $next" ms
		done
	done
	# In turn in one warm session, so that both see the same machine.
	port=$(free_port)
	sql -c "ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:$port/captures', SET breaker_failures '5', SET hedge_after 'off', SET breaker_cooldown '1h')"
	for round in $(seq 41); do script+=" SET tms.image_source = auto; $failover_query; SET tms.image_source = front_end; $failover_query;"; done
	psql -XAtq -c '\timing on' -f - <<<"$script" | awk -v n="$failover_n" '/^Time:/ && seen { print $2 > (++i % 2 ? "/dev/stderr" : "/dev/stdout") } { seen = $0 == n }' \
		>"$failover_dir/direct" 2>"$failover_dir/open"
	# The first round opened the breaker and the connections.
	sed -i 1d "$failover_dir/open" "$failover_dir/direct"
	result 'failover: center down, breaker open' "$(median <"$failover_dir/open")" ms
	result 'failover: front ends asked directly' "$(median <"$failover_dir/direct")" ms
	result 'failover: ratio, median of 40 pairs (at most 1.1)' \
		"$(paste "$failover_dir/open" "$failover_dir/direct" | awk '{ printf "%.3f\n", $1 / $2 }' | median)"
	sql -c "ALTER SERVER image_center OPTIONS (SET url '$store_url', DROP breaker_failures, DROP breaker_cooldown, DROP hedge_after, DROP timeout)"
}

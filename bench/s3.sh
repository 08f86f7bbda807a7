# Uploads to an S3 store (a private Ceph) by an agent, and images from it by the wrapper, against curl --parallel with
# --aws-sigv4; bench/run sources it, with its functions and the sandbox.

s3_times=4 # each photograph is taken in so often
s3_at_once=16

# s3_backlog CODE: an agent that has taken in all photographs and uploaded none; it is stopped.
s3_backlog()
{
	local pid file n
	store_url=http://127.0.0.1:9/captures agent_start "$1" 'bench'
	pid=$(tail -n 1 "$sandbox/pids")
	for n in $(seq $s3_times); do
		for file in "$photos"/*.jpg; do echo "next
			url = \"http://127.0.0.1:$(cat "$sandbox/$1/port")/v1/captures\"
			data-binary = \"@$file\"
			header = \"Content-Type: image/jpeg\"
			output = \"/dev/null\""; done
	done | sed 1d | curl -fsS --no-progress-meter --parallel --parallel-max 8 -K -
	wait_for 120 sh -c "[ \"\$(psql -XAtqc \"SELECT count(*) FROM tms.capture JOIN tms.device USING (device_id) WHERE code = '$1'\")\" = $s3_count ]"
	kill "$pid"
	wait_for 20 sh -c "! kill -0 $pid"
	sed -i "s,^url = .*,url = $store_url," "$sandbox/$1/tms-agent.conf"
}

# s3_upload CODE: starts the agent and appends the milliseconds from there to its last upload to upload.s.
s3_upload()
{
	local begin end
	begin=$(date +%s%N)
	$as_user tms-agent run --debug --config "$sandbox/$1/tms-agent.conf" </dev/null >/dev/null 2>"$sandbox/$1/upload.log" &
	echo $! >>"$sandbox/pids"
	wait_for 300 sh -c "[ \"\$(grep -c ' event=uploaded ' '$sandbox/$1/upload.log')\" = $s3_count ]" || return 1
	end=$(date -d "$(sed -n 's/^time=\([^ ]*\) .* event=uploaded .*/\1/p' "$sandbox/$1/upload.log" | tail -n 1)" +%s%N)
	awk -v d=$((end - begin)) 'BEGIN { print d / 1e6 }' >>"$sandbox/upload.s"
}

# s3_curl NAME: runs the transfers on stdin and appends their milliseconds to NAME.s. All must be answered with 200.
s3_curl()
{
	local begin end good
	cat >"$sandbox/curl.conf"
	begin=$(date +%s%N)
	good=$(curl -sS --no-progress-meter --parallel --parallel-max $s3_at_once -K "$sandbox/curl.conf" | grep -c '^200$')
	end=$(date +%s%N)
	[ "$good" = "$s3_count" ] || { echo "curl: $good of $s3_count were answered with 200" >&2; return 1; }
	awk -v d=$((end - begin)) 'BEGIN { print d / 1e6 }' >>"$sandbox/$1.s"
}

# s3_transfers CODE [PREFIX]: one for each object of an agent, as curl's configuration: a GET, or a PUT below the prefix.
s3_transfers()
{
	local code=$1 prefix=${2:-} path hash none
	none=$(printf '' | sha256sum | cut -d' ' -f1)
	sql -F' ' -c "SELECT path, encode(sha256, 'hex') FROM tms.capture JOIN tms.device USING (device_id) WHERE code = '$code'" |
		while read -r path hash; do
			[ -n "$prefix" ] || hash=$none
			echo "next
				aws-sigv4 = \"aws:amz:us-east-1:s3\"
				user = \"$store_access_key_id:$(cat "$store_secret_file")\"
				header = \"x-amz-content-sha256: $hash\"
				url = \"$store_url/${prefix:-$code}/$path\"
				${prefix:+upload-file = \"$sandbox/$code/data/cache/$path\"}
				output = \"/dev/null\"
				write-out = \"%{http_code}\\n\""
		done | sed 1d
}

bench_s3()
(
	. "$sandbox_top/demo/sandbox_s3.sh"
	photographs
	s3_count=$(($(find "$photos" -maxdepth 1 -name '*.jpg' | wc -l) * s3_times))
	sql -c 'DROP TABLE IF EXISTS tms.capture; DELETE FROM tms.ledger_day' -c 'SELECT tms.create_capture_table()' >/dev/null
	store_start
	store_agent="$store_agent
		concurrency = $s3_at_once"
	for peer in upload upload_curl fetch fetch_curl; do : >"$sandbox/$peer.s"; done
	for round in 1 2 3; do
		s3_backlog "s3-$round"
		s3_transfers "s3-$round" "curl-$round" | s3_curl upload_curl
		s3_upload "s3-$round"
	done
	bytes=$(sql -c "SELECT sum(image_bytes) FROM tms.capture JOIN tms.device USING (device_id) WHERE code = 's3-1'")
	ours=$(median <"$sandbox/upload.s")
	result 's3: photographs uploaded by an agent' "$s3_count" "$((bytes / 1048576)) MB"
	result "s3: from its start to the last, $s3_at_once at once" "$ours" "ms, $(ratio $((s3_count * 1000)) "$ours")/s, $(ratio "$((bytes / 1000))" "$ours") MB/s"
	result "s3: uploads per second against curl --aws-sigv4, $s3_at_once at once" "$(paired upload_curl upload)"

	sql -c 'CREATE SCHEMA s3' -c "CREATE SERVER s3_center FOREIGN DATA WRAPPER tms_fdw OPTIONS (url '$store_url'$store_options)" \
		-c "CREATE USER MAPPING FOR PUBLIC SERVER s3_center $store_mapping" -c 'IMPORT FOREIGN SCHEMA tms FROM SERVER s3_center INTO s3'
	sql -c 'SET tms.image_source = image_center' -c "SELECT 1 / (count(*) = count(image))::int FROM s3.capture_image WHERE device = 's3-1'" >/dev/null
	for round in 1 2 3 4 5; do
		timed >"$sandbox/timed" <<-'SQL'
			SET tms.image_source = image_center;
			SELECT count(image) FROM (SELECT image FROM s3.capture_image WHERE device = 's3-1' LIMIT 16) i;
			SELECT sum(get_byte(image, 0)) FROM s3.capture_image WHERE device = 's3-1';
		SQL
		sed -n 3p "$sandbox/timed" >>"$sandbox/fetch.s"
		s3_transfers s3-1 | s3_curl fetch_curl
	done
	ours=$(median <"$sandbox/fetch.s")
	result "s3: SELECT image FROM capture_image, warm, $s3_at_once at once" "$ours" "ms, $(ratio "$((bytes / 1000))" "$ours") MB/s"
	result "s3: bytes per second against curl --aws-sigv4, $s3_at_once at once" "$(paired fetch_curl fetch)"
	"$sandbox/src/tests/ceph" "$sandbox/store/ceph" stop
)

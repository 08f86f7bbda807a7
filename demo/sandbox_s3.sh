# Sourced after sandbox.sh: the image center is an S3 store, a private Ceph, in place of nginx.

store_kind="Ceph's S3 gateway"

# ceph ACTION...: as the user who may
ceph() { (cd "$sandbox" && $as_user "$sandbox/src/tests/ceph" "$sandbox/store/ceph" "$@"); }

# The first time all of Ceph is started, afterwards the gateway alone: the objects stay where they are.
store_start()
{
	local dir=$sandbox/store/ceph
	if [ -e "$dir/ceph.conf" ]; then
		ceph gateway-start
		return
	fi
	ceph start >/dev/null || return 1
	store_url=http://127.0.0.1:$(cat "$dir/s3.port")/captures
	store_access_key_id=$(cat "$dir/s3.key")
	store_secret_file=$dir/s3.secret
	store_options=", store 's3'"
	store_mapping="OPTIONS (access_key_id '$store_access_key_id', secret_access_key '$(cat "$store_secret_file")')"
	store_agent="store = s3
		access_key_id = $store_access_key_id
		secret_access_key_file = $store_secret_file"
}

store_stop() { ceph gateway-stop; }
store_hint() { echo "$sandbox/src/tests/ceph $sandbox/store/ceph gateway-stop stops it"; }
store_objects() { ceph admin bucket list --bucket=captures --max-entries=1000000 | grep -c '"name": ".*\.jpg"'; }

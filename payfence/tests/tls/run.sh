#!/usr/bin/env bash
# TLS of a node held to clients that people use, and to the scanners that auditors use.
# Use: run.sh PAYFENCE FOLDER PYTHON SSLYZE. FOLDER is made anew. Prints 'ok NAME' or 'FAILED NAME' for each check and the
# figures beside it; ends with code 1 where one failed, and leaves no process behind.
set -euo pipefail
payfence=$1 work=$2 python=$3 sslyze=$4
here=$(cd "$(dirname "$0")" && pwd)
seconds=${TLS_SWAP_SECONDS:-30}

rm -rf "$work"
mkdir -p "$work/certs"
work=$(cd "$work" && pwd)
children=()
failed=0
finish() {
    # Only what this script started.
    if [ "${#children[@]}" -gt 0 ]; then kill "${children[@]}" 2>/dev/null || true; fi
}
trap finish EXIT

expect() {
    local name=$1
    shift
    if "$@" > "$work/out" 2>&1; then
        printf 'ok %s\n' "$name"
    else
        printf 'FAILED %s\n' "$name"
        tail -n 30 "$work/out"
        failed=1
    fi
}

# Certificates: an authority of our own, as short-lived as a public one's.
key() { case $1 in ecdsa) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 ;; rsa) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 ;; esac 2> "$work/openssl.log"; }
issue() {
    local out=$1 kind=$2
    key "$kind" > "$out.key"
    chmod 600 "$out.key"
    openssl req -new -key "$out.key" -subj /CN=shop.test -out "$work/request"
    openssl x509 -req -in "$work/request" -CA "$work/ca.pem" -CAkey "$work/ca.key" -days 90 -sha256 -out "$out.crt" \
        -extfile <(printf 'subjectAltName=DNS:shop.test\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n') \
        2>> "$work/openssl.log"
}
key ecdsa > "$work/ca.key"
openssl req -x509 -new -key "$work/ca.key" -subj '/CN=Tests of PayFence' -days 90 -out "$work/ca.pem" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
issue "$work/certs/shop-ecdsa" ecdsa
issue "$work/certs/shop-rsa" rsa
for number in 0 1 2 3; do issue "$work/swap-$number" ecdsa; done

# The node, and an API behind it, on free ports.
read -r origin plain tls admin < <("$python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(one.getsockname()[1] for one in held))')
cat > "$work/policy.toml" <<POLICY
[[sites]]
slug = "shop"
origin = "http://127.0.0.1:$origin"
hosts = ["shop.test"]
hsts = { max_age_seconds = 31536000 }
POLICY
"$python" "$here/origin.py" "$origin" > "$work/origin.log" 2>&1 &
children+=($!)
"$payfence" dataplane --policy "$work/policy.toml" --data-dir "$work/data" --shards 2 \
    --listen "127.0.0.1:$plain" --admin "127.0.0.1:$admin" \
    --tls-listen "127.0.0.1:$tls" --tls-certificates "$work/certs" > "$work/node.log" 2>&1 &
children+=($!)
for _ in $(seq 100); do
    curl -sf "http://127.0.0.1:$admin/readyz" > /dev/null && break
    sleep 0.1
done
curl -sf "http://127.0.0.1:$admin/readyz" > /dev/null || { cat "$work/node.log"; exit 1; }

ca=$work/ca.pem
head -c 5000000 /dev/urandom > "$work/body"
with_curl() {
    local ask=(curl -sS --max-time 20 --cacert "$ca" "--tlsv$1" --tls-max "$1" --resolve "shop.test:$tls:127.0.0.1" "https://shop.test:$tls/x")
    [ "$("${ask[@]}")" = ok ] && "${ask[@]}" --data-binary "@$work/body" | cmp - "$work/body"
}
session=(openssl s_client -connect "127.0.0.1:$tls" -servername shop.test -CAfile "$ca" -verify_return_error)
request=$'GET /x HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n'
# What the session prints when these lines are typed, one after the other with time to be acted upon.
typed() {
    local options=$1
    shift
    # shellcheck disable=SC2086 # options are words
    { for line in "$@"; do printf '%s' "$line"; sleep 0.5; done; sleep 0.5; } | timeout 20 "${session[@]}" $options 2>&1
}
with_openssl() {
    typed "-tls${1/./_} -sess_out $work/session" "$request" | grep -q '^HTTP/1.1 200' &&
        typed "-tls${1/./_} -sess_in $work/session" "$request" > "$work/resumed" && grep -q '^Reused,' "$work/resumed" && grep -q '^HTTP/1.1 200' "$work/resumed"
}
with_rsa() { typed '-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256' "$request" | grep -q '^HTTP/1.1 200'; }
# Line commands of s_client: K asks for new keys on both sides, R for a new handshake.
new_keys() { typed '-tls1_3' $'K\n' $'K\n' "$request" | grep -q '^HTTP/1.1 200'; }
no_renegotiation() {
    typed '-tls1_2' $'R\n' "$request" > "$work/renegotiation" || true
    grep -q RENEGOTIATING "$work/renegotiation" && grep -qi 'no.renegotiation' "$work/renegotiation"
}
refuses() { ! typed "$1 -cipher ALL:@SECLEVEL=0" "$request" | grep -q '^HTTP/1.1'; }

for version in 1.2 1.3; do
    expect "curl with TLS $version" with_curl "$version"
    expect "Python with TLS $version" "$python" "$here/client.py" ask "$tls" "$ca" "$version"
    expect "Node with TLS $version" node "$here/client.mjs" "$tls" "$ca" "$version"
    expect "OpenSSL with TLS $version, resumed" with_openssl "$version"
done
expect 'OpenSSL with the RSA certificate' with_rsa
expect 'OpenSSL renews its keys' new_keys
expect 'no renegotiation' no_renegotiation
expect 'no TLS 1.0' refuses -tls1
expect 'no TLS 1.1' refuses -tls1_1
expect "certificates swapped every second for $seconds s" "$python" "$here/client.py" swap "$tls" "$ca" "$work/certs" "$seconds"
cat "$work/out"

# Nothing weaker than Mozilla's intermediate profile.
expect 'sslyze, intermediate profile' "$sslyze" --mozilla_config=intermediate --certinfo_ca_file "$ca" "shop.test:$tls{127.0.0.1}"
grep -iE 'compliant|profile' "$work/out" || true
# testssl.sh: no finding above INFO, but for what only a public certificate has. In the intermediate profile the client's order
# of suites counts: whoever has no AES instructions asks for ChaCha20 first. Its warnings are about itself.
with_testssl() {
    rm -f "$work/testssl.json"
    testssl --quiet --warnings batch --color 0 --ip 127.0.0.1 --jsonfile "$work/testssl.json" "https://shop.test:$tls/" > "$work/testssl.log" || true
    "$python" - "$work/testssl.json" <<'JUDGE'
import json, re, sys
public = re.compile(r"cert_(chain_of_trust|trust|revocation|crlDistributionPoints|ocspURL|expirationStatus|caIssuers)|OCSP|CAA|certificate_transparency|CT|DNS_CAA|security_headers|cipher_order|scan(Time|Problem)")
findings = json.load(open(sys.argv[1]))
weak = [f for f in findings if f["severity"] not in ("OK", "INFO", "WARN", "DEBUG") and not public.search(f["id"])]
print(len(findings), "findings,", len(weak), "weak")
for finding in weak:
    print(finding["severity"], finding["id"], finding["finding"])
sys.exit(bool(weak) or len(findings) < 50)
JUDGE
}
expect 'testssl.sh' with_testssl
cat "$work/out"
exit "$failed"

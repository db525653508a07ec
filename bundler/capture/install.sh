#!/bin/sh
# Installs Lifeboat @VERSION@ and what a medium carries for this box.
#
#   cp /media/usb/install.sh . && sha256sum install.sh     # compare with the delivery slip
#   sh install.sh /media/usb
#
# Nothing is run from the medium: each file is copied into a private folder first, and it is the copy whose digest is
# checked and which is used. It may be run again at any time, also after it was stopped.
set -eu
umask 022
version='@VERSION@' wanted_python='@PYTHON@' wanted_machine='@MACHINE@' program_wheel='@PROGRAM@'
files='@FILES@'

medium='' prefix=/opt/lifeboat state=/var/lib/lifeboat user=lifeboat host=0.0.0.0 port=8443 service=yes python=''
site='' code='' gpu='' tls=''
usage() {
  cat <<EOT
Usage: sh install.sh MEDIUM [options]
Installs Lifeboat $version from MEDIUM, then the newest bundle on it, and starts the service.
  --prefix DIR           where programs are installed (default $prefix)
  --state DIR            where the box keeps what it holds (default $state)
  --user NAME            whom the service runs as, made if there is none (default $user)
  --host ADDRESS         where the service listens (default $host, with TLS)
  --port PORT            (default $port)
  --tls-cert FILE        serve this certificate chain (PEM) ...
  --tls-key FILE         ... and its key; the service's user must be able to read both
  --site NAME            the site's name, where the medium holds several
  --site-code-file FILE  the code of the site card; asked for otherwise
  --gpu                  let the service reach a GPU of NVIDIA
  --python PROGRAM       the Python to use (default: python3)
  --no-service           no user, no unit, nothing outside --prefix and --state; needs no root
EOT
}
if [ -t 2 ]; then red=$(printf '\033[31m') green=$(printf '\033[32m') off=$(printf '\033[0m'); else red='' green='' off=''; fi
say() { printf '%s\n' "$*" >&2; }
fail() {  # CODE FACT [HINT]: the exit codes are those of docs/exit-codes.md
  say "${red}RED: $2${off}"
  if [ -n "${3:-}" ]; then say "hint: $3"; fi
  exit "$1"
}
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --no-service) service=no; shift ;;
    --gpu) gpu=--gpu; shift ;;
    --prefix | --state | --user | --host | --port | --site | --site-code-file | --python | --tls-cert | --tls-key)
      [ $# -ge 2 ] || fail 2 "$1 wants a value" "sh install.sh --help"
      case $1 in
        --prefix) prefix=$2 ;; --state) state=$2 ;; --user) user=$2 ;; --host) host=$2 ;; --port) port=$2 ;;
        --site) site=$2 ;; --site-code-file) code=$2 ;; --python) python=$2 ;;
        --tls-cert | --tls-key) tls="$tls $1 $2" ;;
      esac
      shift 2 ;;
    -*) fail 2 "there is no option $1" "sh install.sh --help" ;;
    *) [ -z "$medium" ] || fail 2 "more than one medium: $medium and $1" "sh install.sh --help"
      medium=$1; shift ;;
  esac
done
[ -n "$medium" ] || { usage >&2; exit 2; }
[ -d "$medium/metadata" ] || fail 16 "$medium holds no Lifeboat medium" "name the folder that holds install.sh"
case $prefix in /*) ;; *) fail 2 "--prefix $prefix is not absolute" ;; esac
case $state in /*) ;; *) state=$PWD/$state ;; esac
if [ "$service" = yes ] && [ "$(id -u)" != 0 ]; then
  fail 3 "the service is installed by root" "sudo sh install.sh $medium, or --no-service with --prefix and --state"
fi

python=${python:-$(command -v python3 || true)}
[ -n "$python" ] || fail 5 "there is no python3 here" "apt-get install python3"
has=$("$python" -I -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine())') ||
  fail 5 "$python does not run" "apt-get install python3"
case $has in
  3.[0-9]\ * | 3.10\ * | 2.*) fail 5 "$python is Python ${has% *}, at least 3.11 is needed" "--python names another" ;;
esac
if [ -n "$wanted_python" ] && [ "${has% *}" != "$wanted_python" ]; then
  fail 5 "this medium's program is for Python $wanted_python, $python is ${has% *}" "--python names another"
fi
if [ -n "$wanted_machine" ] && [ "${has#* }" != "$wanted_machine" ]; then
  fail 5 "this medium's program is for $wanted_machine, this box is ${has#* }" "ask the builder for a medium for this box"
fi

program=$prefix/$version staging=$prefix/.wheels-$version
mkdir -p "$prefix"
if [ ! -f "$program/lifeboat.json" ]; then
  say "copying and checking Lifeboat $version"
  mkdir -p "$staging"
  chmod 700 "$staging"
  part=$staging/.part.$$
  trap 'rm -f "$part"' EXIT
  printf '%s\n' "$files" | while read -r digest length name; do
    if [ -f "$staging/$name" ] && printf '%s  %s\n' "$digest" "$staging/$name" | sha256sum -c - > /dev/null 2>&1; then
      continue  # an earlier run got so far
    fi
    source=$medium/runtime/$version/$name
    if [ -L "$source" ] || [ ! -f "$source" ]; then
      fail 16 "runtime/$version/$name is missing on the medium, or no regular file" "copy the medium again"
    fi
    # One byte more than it has: a file that grew is seen, and none fills the disk.
    head -c $((length + 1)) < "$source" > "$part" || fail 14 "runtime/$version/$name cannot be read" "try another stick"
    printf '%s  %s\n' "$digest" "$part" | sha256sum -c - > /dev/null 2>&1 ||
      fail 14 "runtime/$version/$name is not what was signed" "copy this file to the medium again"
    mv "$part" "$staging/$name"
  done
  say "installing Lifeboat $version into $program"
  # The program's own code from its own checked wheel: the same that a box runs when a medium brings newer software.
  "$python" -I -c 'import sys; sys.path.insert(0, sys.argv.pop(1)); from appliance.store.unpacking import main; main()' \
    "$staging/$program_wheel" "$staging" "$program" || fail $? "Lifeboat $version could not be installed"
fi
# Which program is started at boot: the first one here; later ones follow once they have served (docs/box.md).
[ -L "$prefix/current" ] || ln -s "$version" "$prefix/current"

if [ "$service" = yes ]; then
  id -u "$user" > /dev/null 2>&1 || useradd --system --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
  mkdir -p "$state"
  chown "$user:" "$state"
  chmod 700 "$state"
fi
box=$program/bin/lifeboat-appliance
set -- install "$medium" --state "$state" --programs "$prefix"
[ -z "$site" ] || set -- "$@" --site "$site"
[ -z "$code" ] || set -- "$@" --site-code-file "$code"
"$box" "$@" || fail $? "the program is installed, the bundle is not" "run the same again once this is mended"

token=''
if [ ! -e "$state/tokens.json" ]; then
  token=$("$box" token create first --state "$state" 2> /dev/null) ||
    fail $? "no token could be made" "$box token create first --state $state"
fi
url=''
if [ "$service" = yes ]; then
  mkdir -p /usr/local/bin
  ln -sfn "$prefix/current/bin/lifeboat-appliance" /usr/local/bin/lifeboat-appliance
fi
if [ "$service" = yes ] && [ -d /run/systemd/system ]; then
  unit=/etc/systemd/system/lifeboat.service
  "$box" unit --state "$state" --programs "$prefix" --user "$user" --host "$host" --port "$port" $gpu $tls > "$unit.part" ||
    fail $? "no unit could be written" "mend what the error says and run the same again"
  mv "$unit.part" "$unit"
  systemctl daemon-reload
  systemctl --quiet enable --now lifeboat.service || fail 19 "the service does not start" "journalctl -u lifeboat"
  waited=0
  while [ ! -s "$state/run/url" ] && [ $waited -lt 120 ]; do sleep 1; waited=$((waited + 1)); done
  url=$(cat "$state/run/url" 2> /dev/null) || fail 19 "the service has not answered for 120 s" "journalctl -u lifeboat"
  say "${green}GREEN: Lifeboat $version answers${off}"
else
  say "${green}GREEN: Lifeboat $version can answer${off}"
  as=''
  [ "$service" = no ] || as="runuser -u $user -- "
  say "no service was set up; start it with:"
  say "  $as$prefix/current/bin/lifeboat-appliance serve --state $state --programs $prefix --host $host --port $port$tls"
fi
[ -z "$url" ] || printf 'URL    %s\n' "$url"
if [ -n "$token" ]; then
  printf 'token  %s\n' "$token"
  say "the token is not shown again; more: lifeboat-appliance token create NAME"
fi
say "next: point an OpenAI client at ${url:-its URL}/v1 with the token and model \"auto\"; lifeboat-appliance doctor tells how this box is"

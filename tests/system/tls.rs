//! HTTPS with certbot, against an ACME server on the same machine: a certificate is requested, served, and
//! renewed under load.

use std::io::Write;

use crate::lab::Lab;
use crate::pair::{DOMAIN, OPTIONS, Pair};

/// The number of renewals under load behind each web server.
const RENEWALS: usize = 2;

/// Starts an ACME server that resolves names through `/etc/hosts`, and configures certbot to use it.
fn start_acme(pair: &Pair) {
    pair.server.write(
        "/etc/acme.json",
        r#"{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
            "certificate": "/etc/acme.crt", "privateKey": "/etc/acme.key", "httpPort": 80, "tlsPort": 443}}"#,
    );
    pair.server.write(
        "/etc/letsencrypt/cli.ini",
        "server = https://localhost:14000/dir\nno-verify-ssl = true\nno-random-sleep-on-renew = true\n",
    );
    pair.server
        .sh("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                -keyout /etc/acme.key -out /etc/acme.crt
            systemd-run --quiet --unit=acme -E PEBBLE_VA_NOSLEEP=1 -E PEBBLE_WFE_NONCEREJECT=0 pebble -config /etc/acme.json
            timeout 20 sh -c 'until curl -sk https://localhost:15000/roots/0 >/etc/acme-root.pem; do sleep 0.1; done'")
        .ok();
    // Make the developer's machine, as the visitor, and `promote` on the server trust it.
    let root = pair.server.sh("cat /etc/acme-root.pem").ok();
    pair.dev.write("/tmp/ca.pem", root.text());
    pair.server
        .sh("cp /etc/acme-root.pem /usr/local/share/ca-certificates/acme.crt; update-ca-certificates")
        .ok();
}

/// Returns the serial number of the certificate that visitors get.
fn serial(pair: &Pair) -> String {
    let ask = format!(
        "openssl s_client -connect {DOMAIN}:443 -servername {DOMAIN} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    );
    pair.dev.sh(&ask).ok().text().to_owned()
}

/// Renews under load. Visitors get the new certificate, and no request fails.
fn renewals_are_seamless(pair: &Pair, web_server: &str) {
    let before = serial(pair);
    let load = pair.begin_load();
    for _ in 0..RENEWALS {
        pair.server.sh("sleep 1; certbot renew --force-renewal; sleep 1").ok().says("(success)");
    }
    let result = pair.end_load(load);
    let figures = format!("HTTPS behind {web_server}: {RENEWALS} renewals: {result}\n");
    std::io::stderr().write_all(figures.as_bytes()).unwrap();
    for count in ["failed", "mixed", "stale"] {
        assert_eq!(result[count], 0, "{web_server}: {result}");
    }
    assert!(result["requests"].as_u64() > Some(100), "load too low: {result}");
    assert_ne!(serial(pair), before, "the renewed certificate is not served");
}

/// Asserts that port 80 redirects, except for the requests of the certificate authority.
fn redirects(pair: &Pair) {
    pair.dev
        .sh(&format!(
            "curl -sS -o /dev/null -w '%{{http_code}} %{{redirect_url}}' 'http://{DOMAIN}/a%20b?c=d%20e'"
        ))
        .ok()
        .says(&format!("301 https://{DOMAIN}/a%20b?c=d%20e"));
    pair.server.sh("cd /var/lib/bluegreen/acme; mkdir -p .well-known/acme-challenge; echo token >.well-known/acme-challenge/test").ok();
    pair.dev.sh(&format!("curl -sS http://{DOMAIN}/.well-known/acme-challenge/test")).ok().says("token");
}

#[test]
fn behind_nginx() {
    let Some(lab) = Lab::new() else { return };
    let mut pair = Pair::boot(&lab);
    start_acme(&pair);
    let site = format!("--stack node --web-server nginx --domain {DOMAIN} --tls certbot");
    // The name resolves to another machine at first. The site works, without HTTPS.
    pair.server.sh(&format!("sed -i 's/^192.0.2.11 {DOMAIN}/192.0.2.13 {DOMAIN}/' /etc/hosts")).ok();
    pair.server
        .install_for(&pair.dev, &site)
        .fails()
        .says(&format!("error: tls: no certificate for {DOMAIN}; the site is served without HTTPS"));
    pair.dev
        .sh_as("dev", "cd sample_app; git remote add site deploy@blue:sample_app; git push site master")
        .ok();
    pair.shows(DOMAIN, 1);
    pair.server.sh(&format!("sed -i 's/^192.0.2.13 {DOMAIN}/192.0.2.11 {DOMAIN}/' /etc/hosts")).ok();
    pair.server.install("").ok();
    pair.server.install("").ok().says("Nothing had to be changed.");
    pair.scheme = "https";
    pair.shows(DOMAIN, 1);
    redirects(&pair);
    renewals_are_seamless(&pair, "nginx");
    pair.server.reboot();
    pair.shows(DOMAIN, 1);
    pair.server.install("--uninstall").ok().says(&format!("delete the certificate for {DOMAIN}"));
    pair.server.sh("ls /etc/letsencrypt/live /etc/letsencrypt/renewal").ok().lacks(DOMAIN);
}

#[test]
fn a_pair_behind_apache() {
    let Some(lab) = Lab::new() else { return };
    let mut pair = Pair::boot(&lab);
    start_acme(&pair);
    pair.scheme = "https";
    pair.server.install_for(&pair.dev, &format!("--web-server apache {OPTIONS} --tls certbot")).ok();
    pair.server.sh("sed -i 's/^for = .*/for = \"0.5s\"/' /etc/bluegreen/promote.toml").ok();
    pair.server.install("--pair").ok().says("Nothing had to be changed.");
    pair.deploy();
    pair.shows("blue.shop.local", 1);
    pair.shows("green.shop.local", 2);
    redirects(&pair);
    pair.promote("green");
    renewals_are_seamless(&pair, "apache");
    pair.works();
}

#[test]
fn bad_input_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let server = lab.server("blue");
    let refused = |options: &str, error: &str, hint: &str| {
        let before = server.written();
        server.install(options).fails().says(error).says(hint);
        assert_eq!(server.changed_since(&before), "", "{options}");
    };
    let tls = "--stack static --tls certbot";
    refused(tls, "--tls certbot needs --domain", "--help");
    refused(
        "--stack static --tls letsencrypt",
        "invalid value of --tls: `letsencrypt`: use certbot",
        "--help",
    );
    refused(&format!("{tls} --domain '*.shop.local'"), "a host name without a wildcard", "--help");
    let tls = format!("{tls} --domain shop.invalid");
    refused(&format!("{tls} --web-server caddy"), "Caddy obtains certificates itself", "leave out --tls");
    refused(&format!("{tls} --web-server none"), "--tls certbot needs a web server", "--web-server nginx");
    refused(
        &format!("{tls} --web-server nginx"),
        "shop.invalid does not resolve, so no certificate can be requested for it",
        "create its DNS record",
    );
    server.sh("echo '192.0.2.11 shop.invalid' >>/etc/hosts; mkdir -p /etc/letsencrypt/renewal; touch /etc/letsencrypt/renewal/shop.invalid.conf").ok();
    refused(
        &format!("{tls} --web-server nginx"),
        "certbot has a certificate of the name shop.invalid already",
        "certbot delete --cert-name shop.invalid",
    );
}

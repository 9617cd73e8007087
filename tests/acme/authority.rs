//! `pebble` and `pebble-challtestsrv` as processes: an authority that asks challenges at ports of the test's choice.

use crate::support::{PATIENCE, eventually, free_address};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running authority and its name server, in which every name is 127.0.0.1.
pub struct Authority {
    dir: tempfile::TempDir,
    directory: SocketAddr,
    config: PathBuf,
    dns: SocketAddr,
    names: Child,
    pebble: Option<Child>,
}

impl Authority {
    /// Asks http-01 at `http`'s port and tls-alpn-01 at `tls`'s, once it has risen; certificates are valid for so many
    /// seconds.
    pub fn prepared(http: SocketAddr, tls: SocketAddr, seconds: u32) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let (directory, dns) = (free_address(), free_address());
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.path().join("ca.key"), key.serialize_pem()).unwrap();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": directory.to_string(),
            "managementListenAddress": free_address().to_string(),
            "certificate": dir.path().join("ca.pem"),
            "privateKey": dir.path().join("ca.key"),
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "certificateValidityPeriod": seconds,
        }});
        let path = dir.path().join("pebble.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let names = Command::new("pebble-challtestsrv")
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .args(["-dns01", &dns.to_string(), "-management", &free_address().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble-challtestsrv of Debian's package pebble");
        wait_for_names(dns);
        Authority { dir, directory, config: path, dns, names, pebble: None }
    }

    /// Answers from now on, with nothing remembered.
    pub fn rise(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("pebble.log")).unwrap();
        let pebble = Command::new("pebble")
            .args(["-config", &self.config.display().to_string()])
            .args(["-dnsserver", &self.dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            // Nonces are refused at random otherwise, which is instant-acme's to bear; here it only costs time.
            .env("PEBBLE_WFE_NONCEREJECT", "5")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("pebble of Debian's package pebble");
        self.pebble = Some(pebble);
        let directory = self.directory;
        eventually("pebble listens", || TcpStream::connect(directory).is_ok());
    }

    /// Answers no more.
    pub fn fall(&mut self) {
        if let Some(mut pebble) = self.pebble.take() {
            let _ = pebble.kill();
            let _ = pebble.wait();
        }
    }

    /// How many certificates were signed since it rose.
    pub fn signed(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("pebble.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("Issued certificate serial")).count()
    }

    /// Holds the root of its directory, for who is to read it.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The table `[acme]` for it.
    pub fn table(&self, storage: &Path, more: &str) -> String {
        format!(
            "[acme]\ndirectory = \"https://localhost:{}/dir\"\nca = \"{}\"\nstorage = \"{}\"\nterms_agreed = true\n{more}\n",
            self.directory.port(),
            self.dir.path().join("ca.pem").display(),
            storage.display(),
        )
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.fall();
        let _ = self.names.kill();
        let _ = self.names.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("pebble.log"));
            eprintln!("---- pebble said:\n{}----", log.unwrap_or_default());
        }
    }
}

/// Until a question for the name `a.test` is answered.
fn wait_for_names(dns: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE / 150)).unwrap();
    let question =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01";
    eventually("the name server answers", || {
        let sent = socket.send_to(question, dns);
        sent.is_ok() && socket.recv(&mut [0; 512]).is_ok()
    });
}

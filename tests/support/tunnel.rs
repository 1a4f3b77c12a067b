//! A proxy as companies have them: the only way out, whatever the name.

use std::io::{self, BufRead as _, BufReader, Write as _, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// Leads every connection to one server, or to nobody, and tells where each was to go.
pub struct Tunnel {
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    /// To this port of the machine.
    pub fn to(port: u16) -> Self {
        Self::new(Some(port))
    }

    /// Refuses everybody.
    pub fn shut() -> Self {
        Self::new(None)
    }

    fn new(to: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = asked.clone();
        spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                spawn(move || lead(near, to, &kept));
            }
        });
        Self { url, asked }
    }

    /// The first line of each connection.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn lead(mut near: TcpStream, to: Option<u16>, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(near.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let Some(first) = head.lines().next() else { return Ok(()) };
    asked.lock().unwrap().push(first.to_owned());
    let Some(port) = to else {
        return near.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let mut far = TcpStream::connect(("127.0.0.1", port))?;
    match first.starts_with("CONNECT ") {
        true => near.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?,
        false => far.write_all(&[head.as_bytes(), reader.buffer()].concat())?,
    }
    for (mut from, mut to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        spawn(move || {
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

//! Wants the network, and so must be refused before any of it runs.

wit_bindgen::generate!({ path: "../../../wit/v1", world: "consign:format/format-plugin" });

use consign::format::data::Batch;
use consign::format::output::Sink;
use consign::format::types::{Description, Diagnostic, Error, Field};
use exports::consign::format::formatter::{Formatter, Guest, GuestFormatter};

struct Socket;

export!(Socket);

impl Guest for Socket {
    type Formatter = Socket;

    fn describe() -> Description {
        Description {
            name: "socket".into(),
            version: "1.0.0".into(),
            extension: "txt".into(),
            media_type: "text/plain".into(),
            options_schema: "{}".into(),
        }
    }

    fn check(_: String, _: Vec<Field>) -> Vec<Diagnostic> {
        Vec::new()
    }
}

impl GuestFormatter for Socket {
    fn open(address: String, _: Vec<Field>) -> Result<Formatter, Error> {
        let connected = std::net::TcpStream::connect(address.as_str());
        connected.map(|_| Formatter::new(Socket)).map_err(|error| Error::Other(error.to_string()))
    }

    fn write(&self, _: &Batch, _: &Sink) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&self, _: &Sink) -> Result<(), Error> {
        Ok(())
    }
}

//! `Sec-WebSocket-Extensions` ([RFC 6455, section 9]) and the negotiation of permessage-deflate ([RFC 7692,
//! section 7.1]).
//!
//! Bytes of header values in, [`Agreed`] parameters and header values out; nothing here knows whether the
//! handshake around it is an HTTP/1.1 upgrade or an extended CONNECT.
//!
//! ```text
//!  client: DeflatePolicy::offer ──► server: DeflatePolicy::negotiate ──► client: DeflatePolicy::check
//!                                     └► Agreed                             └► Agreed
//! ```
//!
//! An offer that cannot be accepted, for whatever reason, is declined and the next one is looked at; it never
//! fails the handshake. A response that cannot be accepted fails the connection: the server already
//! compresses by it.
//!
//! [RFC 6455, section 9]: https://www.rfc-editor.org/rfc/rfc6455#section-9
//! [RFC 7692, section 7.1]: https://www.rfc-editor.org/rfc/rfc7692#section-7.1

mod header;
mod parameters;

pub(super) use self::header::is_token;
use self::header::{Cursor, elements};
use self::parameters::{
    CLIENT_MAX_WINDOW_BITS, PERMESSAGE_DEFLATE, Parameters, SERVER_MAX_WINDOW_BITS,
    SERVER_NO_CONTEXT_TAKEOVER,
};
use super::deflate::{Agreed, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// What one end wants of permessage-deflate. The same settings serve a server and a client.
///
/// Context takeover is off by default: it costs each connection up to 32 KiB in each direction, lets the
/// compressed size of one message tell of the one before, and keeps a message from being compressed once for
/// many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeflatePolicy {
    /// The server may refer to its earlier messages. Default false.
    pub server_takeover: bool,
    /// The client may refer to its earlier messages. Default false.
    pub client_takeover: bool,
    /// The server's largest window as a power of two, 8 to 15 (anything else counts as the nearest). Default
    /// 15.
    pub server_max_window_bits: u8,
    /// The client's largest window, as a power of two, 8 to 15 (anything else counts as the nearest). Default
    /// 15. A server cannot impose it on a client that does not offer the parameter; it denies such a client
    /// takeover.
    pub client_max_window_bits: u8,
}

impl Default for DeflatePolicy {
    fn default() -> DeflatePolicy {
        DeflatePolicy {
            server_takeover: false,
            client_takeover: false,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
        }
    }
}

/// Why a client cannot accept the extensions in a server's response. All are the server's doing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExtensionError {
    /// Not a list of extensions as RFC 6455, section 9.1 defines it.
    #[error("Sec-WebSocket-Extensions is malformed")]
    Malformed,
    /// An extension that was not offered.
    #[error("the extension {name} was not offered")]
    NotOffered {
        /// The extension's name.
        name: String,
    },
    /// permessage-deflate more than once.
    #[error("{PERMESSAGE_DEFLATE} was accepted more than once")]
    Repeated,
    /// A parameter that permessage-deflate does not define.
    #[error("{PERMESSAGE_DEFLATE} has no parameter {name}")]
    UnknownParameter {
        /// The parameter's name.
        name: String,
    },
    /// A parameter more than once.
    #[error("the parameter {name} is there more than once")]
    RepeatedParameter {
        /// The parameter's name.
        name: &'static str,
    },
    /// A value that the parameter cannot have, in a response to what was offered.
    #[error("the parameter {name} has an invalid value")]
    InvalidValue {
        /// The parameter's name.
        name: &'static str,
    },
    /// A parameter of the offer that an acceptance must repeat, and this does not.
    #[error("the offered parameter {name} was not accepted with the offer")]
    Ignored {
        /// The parameter's name.
        name: &'static str,
    },
}

impl DeflatePolicy {
    /// Server: the first acceptable of a client's offers, as the agreed parameters and the value of the
    /// response's `Sec-WebSocket-Extensions`. `offers` are the values of all headers of that name, in their
    /// order.
    ///
    /// None if there is none: the connection then goes on without compression.
    pub fn negotiate(&self, offers: impl IntoIterator<Item: AsRef<[u8]>>) -> Option<(Agreed, String)> {
        for header in offers {
            for element in elements(header.as_ref()) {
                // "A server MUST decline an extension negotiation offer for this extension if [it] contains
                // an extension parameter not defined for use in an offer [...] with an invalid value [...]
                // multiple extension parameters with the same name" (RFC 7692, 7)
                let Ok(Some(offer)) = Parameters::parse(element) else {
                    continue;
                };
                // "server_max_window_bits" has no form without a value (RFC 7692, 7.1.2.1)
                if offer.server_max_window_bits == Some(None) {
                    continue;
                }
                return Some(self.accept(&offer));
            }
        }
        None
    }

    fn accept(&self, offer: &Parameters) -> (Agreed, String) {
        let policy = self.clamped();
        // "with the same or smaller value as the offer" (RFC 7692, 7.1.2.1)
        let server_bits = match offer.server_max_window_bits {
            Some(Some(bits)) => bits.min(policy.server_max_window_bits),
            _ => policy.server_max_window_bits,
        };
        let client_bits = match offer.client_max_window_bits {
            Some(Some(bits)) => bits.min(policy.client_max_window_bits),
            Some(None) => policy.client_max_window_bits,
            None => WINDOW_BITS_MAX,
        };
        let agreed = Agreed {
            server_no_context_takeover: offer.server_no_context_takeover || !policy.server_takeover,
            client_no_context_takeover: offer.client_no_context_takeover
                || !policy.client_takeover
                || client_bits > policy.client_max_window_bits,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
        };
        let response = Parameters {
            server_no_context_takeover: agreed.server_no_context_takeover,
            client_no_context_takeover: agreed.client_no_context_takeover,
            // "A server MAY include the "server_max_window_bits" extension parameter in an extension
            // negotiation response even if the extension negotiation offer [...] didn't" (RFC 7692, 7.1.2.1)
            server_max_window_bits: (offer.server_max_window_bits.is_some() || server_bits < WINDOW_BITS_MAX)
                .then_some(Some(server_bits)),
            // "If a received extension negotiation offer doesn't have the "client_max_window_bits" extension
            // parameter, the corresponding extension negotiation response to the offer MUST NOT include" it
            // (RFC 7692, 7.1.2.2)
            client_max_window_bits: match offer.client_max_window_bits {
                Some(Some(_)) => Some(Some(client_bits)),
                Some(None) if client_bits < WINDOW_BITS_MAX => Some(Some(client_bits)),
                _ => None,
            },
        };
        (agreed, response.header_value())
    }

    /// Client: the value of the request's `Sec-WebSocket-Extensions`.
    pub fn offer(&self) -> String {
        let policy = self.clamped();
        let bits = |bits| (bits < WINDOW_BITS_MAX).then_some(bits);
        let offer = Parameters {
            server_no_context_takeover: !policy.server_takeover,
            client_no_context_takeover: !policy.client_takeover,
            server_max_window_bits: bits(policy.server_max_window_bits).map(Some),
            client_max_window_bits: Some(bits(policy.client_max_window_bits)),
        };
        offer.header_value()
    }

    /// Client: checks a server's response to [`offer`](DeflatePolicy::offer). `responses` are the values of
    /// all `Sec-WebSocket-Extensions` headers. None if the server accepted no extension.
    ///
    /// # Errors
    /// See [`ExtensionError`]; the connection must then be failed.
    pub fn check(
        &self,
        responses: impl IntoIterator<Item: AsRef<[u8]>>,
    ) -> Result<Option<Agreed>, ExtensionError> {
        let mut agreed = None;
        for header in responses {
            for element in elements(header.as_ref()) {
                let Some(response) = Parameters::parse(element)? else {
                    return Err(not_offered(element));
                };
                if agreed.replace(self.check_parameters(&response)?).is_some() {
                    return Err(ExtensionError::Repeated);
                }
            }
        }
        Ok(agreed)
    }

    fn check_parameters(&self, response: &Parameters) -> Result<Agreed, ExtensionError> {
        let policy = self.clamped();
        // "A server accepts an extension negotiation offer that includes the "server_no_context_takeover"
        // extension parameter by including [it] in the corresponding extension negotiation response" (RFC
        // 7692, 7.1.1.1)
        if !policy.server_takeover && !response.server_no_context_takeover {
            return Err(ExtensionError::Ignored {
                name: SERVER_NO_CONTEXT_TAKEOVER,
            });
        }
        // "A server accepts an extension negotiation offer with this parameter by including [it] with the
        // same or smaller value as the offer." (RFC 7692, 7.1.2.1)
        let server_max_window_bits = match response.server_max_window_bits {
            Some(Some(bits)) if bits <= policy.server_max_window_bits => bits,
            None if policy.server_max_window_bits == WINDOW_BITS_MAX => WINDOW_BITS_MAX,
            None => {
                return Err(ExtensionError::Ignored {
                    name: SERVER_MAX_WINDOW_BITS,
                });
            }
            Some(_) => {
                return Err(ExtensionError::InvalidValue {
                    name: SERVER_MAX_WINDOW_BITS,
                });
            }
        };
        // "with a value equal to or smaller than the received value" (RFC 7692, 7.1.2.2)
        let client_max_window_bits = match response.client_max_window_bits {
            Some(Some(bits)) if bits <= policy.client_max_window_bits => bits,
            None => policy.client_max_window_bits,
            Some(_) => {
                return Err(ExtensionError::InvalidValue {
                    name: CLIENT_MAX_WINDOW_BITS,
                });
            }
        };
        Ok(Agreed {
            server_no_context_takeover: response.server_no_context_takeover,
            client_no_context_takeover: response.client_no_context_takeover || !policy.client_takeover,
            server_max_window_bits,
            client_max_window_bits,
        })
    }

    fn clamped(&self) -> DeflatePolicy {
        let clamp = |bits: u8| bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        DeflatePolicy {
            server_max_window_bits: clamp(self.server_max_window_bits),
            client_max_window_bits: clamp(self.client_max_window_bits),
            ..*self
        }
    }
}

/// Client that offered no extension: checks that the server's response names none.
///
/// # Errors
/// [`ExtensionError::NotOffered`] or [`ExtensionError::Malformed`]; the connection must then be failed.
pub fn check_none(responses: impl IntoIterator<Item: AsRef<[u8]>>) -> Result<(), ExtensionError> {
    for header in responses {
        if let Some(element) = elements(header.as_ref()).next() {
            return Err(not_offered(element));
        }
    }
    Ok(())
}

fn not_offered(element: &[u8]) -> ExtensionError {
    match (Cursor { rest: element }).token() {
        Some(name) => ExtensionError::NotOffered {
            name: name.to_owned(),
        },
        None => ExtensionError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::parameters::CLIENT_NO_CONTEXT_TAKEOVER;
    use super::*;
    use proptest::prelude::*;

    const TAKEOVER: DeflatePolicy = DeflatePolicy {
        server_takeover: true,
        client_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };

    /// What a server of this policy answers to these header lines; "" if it declines.
    fn answer(policy: DeflatePolicy, offers: &[&str]) -> String {
        policy
            .negotiate(offers)
            .map_or(String::new(), |(_, response)| response)
    }

    fn check_answer(offer: &str, response: &str) {
        assert_eq!(answer(TAKEOVER, &[offer]), response, "to {offer}");
    }

    fn declined(offer: &str) {
        check_answer(offer, "");
        // and only the offer, not what stands beside it
        assert_eq!(
            answer(TAKEOVER, &[offer, "permessage-deflate"]),
            "permessage-deflate",
            "after {offer}"
        );
        assert_eq!(
            answer(TAKEOVER, &["permessage-deflate", offer]),
            "permessage-deflate",
            "before {offer}"
        );
    }

    #[test]
    fn offer_is_answered_without_takeover_by_default() {
        let policy = DeflatePolicy::default();
        let without = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(answer(policy, &["permessage-deflate"]), without);
        assert_eq!(
            answer(policy, &["permessage-deflate; client_max_window_bits"]),
            without
        );
        assert_eq!(
            policy.negotiate(["permessage-deflate; server_max_window_bits=9; client_max_window_bits=11"]),
            Some((
                Agreed {
                    server_no_context_takeover: true,
                    client_no_context_takeover: true,
                    server_max_window_bits: 9,
                    client_max_window_bits: 11,
                },
                format!("{without}; server_max_window_bits=9; client_max_window_bits=11")
            ))
        );
    }

    #[test]
    fn offered_parameters_are_honoured() {
        check_answer("permessage-deflate", "permessage-deflate");
        check_answer(
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover",
        );
        check_answer(
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; client_no_context_takeover",
        );
        check_answer("permessage-deflate; client_max_window_bits", "permessage-deflate");
        for bits in 8..=15 {
            for name in [SERVER_MAX_WINDOW_BITS, CLIENT_MAX_WINDOW_BITS] {
                let offer = format!("permessage-deflate; {name}={bits}");
                check_answer(&offer, &offer);
            }
        }
    }

    #[test]
    fn policy_caps_the_windows() {
        let policy = DeflatePolicy {
            server_max_window_bits: 12,
            client_max_window_bits: 11,
            ..TAKEOVER
        };
        for (offer, response) in [
            (
                "permessage-deflate; server_max_window_bits=10",
                "; client_no_context_takeover; server_max_window_bits=10",
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                "; client_no_context_takeover; server_max_window_bits=12",
            ),
            (
                "permessage-deflate; client_max_window_bits",
                "; server_max_window_bits=12; client_max_window_bits=11",
            ),
            (
                "permessage-deflate; client_max_window_bits=15",
                "; server_max_window_bits=12; client_max_window_bits=11",
            ),
            (
                "permessage-deflate; client_max_window_bits=9",
                "; server_max_window_bits=12; client_max_window_bits=9",
            ),
        ] {
            assert_eq!(
                answer(policy, &[offer]),
                format!("permessage-deflate{response}"),
                "to {offer}"
            );
        }
    }

    #[test]
    fn window_of_an_uncappable_client_is_not_kept() {
        let policy = DeflatePolicy {
            client_max_window_bits: 11,
            ..TAKEOVER
        };
        let (agreed, response) = policy.negotiate(["permessage-deflate"]).unwrap();
        assert_eq!(response, "permessage-deflate; client_no_context_takeover");
        assert_eq!(agreed.client_max_window_bits, 15);
    }

    // RFC 7692, 7.1.3
    #[test]
    fn first_acceptable_offer_is_taken() {
        let offers = "permessage-deflate; client_max_window_bits; server_max_window_bits=10, \
                      permessage-deflate; client_max_window_bits";
        check_answer(offers, "permessage-deflate; server_max_window_bits=10");
        check_answer(
            "permessage-deflate; mystery, permessage-deflate",
            "permessage-deflate",
        );
        check_answer(
            "x-webkit-deflate-frame, bzip; level=9, permessage-deflate",
            "permessage-deflate",
        );
        assert_eq!(
            answer(TAKEOVER, &["other", "", ", ,permessage-deflate ,"]),
            "permessage-deflate"
        );
        assert_eq!(answer(TAKEOVER, &[]), "");
        check_answer("permessage-deflated", "");
        check_answer("permessage", "");
    }

    #[test]
    fn space_and_quotes_are_part_of_the_grammar() {
        for offer in [
            "permessage-deflate;server_max_window_bits=10",
            "  permessage-deflate\t;  server_max_window_bits = 10  ",
            "permessage-deflate; server_max_window_bits=\"10\"",
            "permessage-deflate; server_max_window_bits=\"\\1\\0\"",
        ] {
            check_answer(offer, "permessage-deflate; server_max_window_bits=10");
        }
        check_answer(
            "other; with=\"a quoted, \\\" comma\", permessage-deflate",
            "permessage-deflate",
        );
    }

    #[test]
    fn unknown_parameter_declines_the_offer() {
        declined("permessage-deflate; mystery");
        declined("permessage-deflate; mystery=1");
        declined("permessage-deflate; Server_Max_Window_Bits=10");
    }

    #[test]
    fn repeated_parameter_declines_the_offer() {
        declined("permessage-deflate; server_no_context_takeover; server_no_context_takeover");
        declined("permessage-deflate; client_no_context_takeover; client_no_context_takeover");
        declined("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10");
        declined("permessage-deflate; client_max_window_bits; client_max_window_bits=10");
    }

    #[test]
    fn badly_quoted_parameter_declines_the_offer() {
        declined("permessage-deflate; server_max_window_bits=\"1 0\"");
        declined("permessage-deflate; server_max_window_bits=\"\"");
        declined("permessage-deflate; server_max_window_bits='10'");
        declined("permessage-deflate; server_max_window_bits=\"10\"1");
        declined("permessage-deflate; server_max_window_bits=10\"");
        declined("permessage-deflate; server_max_window_bits=\"10");
        declined("permessage-deflate; server_max_window_bits=\"10\\");
        declined("permessage-deflate; \"server_max_window_bits\"=10");
    }

    #[test]
    fn out_of_range_window_bits_decline_the_offer() {
        for value in [
            "0",
            "7",
            "16",
            "08",
            "015",
            "-9",
            "+9",
            "9.0",
            "0x9",
            "99999999999999999999",
            "a",
        ] {
            declined(&format!("permessage-deflate; server_max_window_bits={value}"));
            declined(&format!("permessage-deflate; client_max_window_bits={value}"));
        }
    }

    #[test]
    fn value_where_none_is_allowed_or_none_where_one_is_needed_declines_the_offer() {
        declined("permessage-deflate; server_no_context_takeover=1");
        declined("permessage-deflate; client_no_context_takeover=\"true\"");
        declined("permessage-deflate; server_max_window_bits");
        declined("permessage-deflate; server_max_window_bits=");
    }

    #[test]
    fn malformed_element_declines_the_offer() {
        declined("permessage-deflate;");
        declined("permessage-deflate;;client_max_window_bits");
        declined("permessage-deflate client_max_window_bits");
        declined("permessage-deflate=10");
        declined("permessage-deflate; =10");
        declined("; permessage-deflate");
    }

    #[test]
    fn client_offers_what_its_policy_says() {
        assert_eq!(
            DeflatePolicy::default().offer(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
        );
        assert_eq!(TAKEOVER.offer(), "permessage-deflate; client_max_window_bits");
        let narrow = DeflatePolicy {
            server_max_window_bits: 3,
            client_max_window_bits: 12,
            ..TAKEOVER
        };
        assert_eq!(
            narrow.offer(),
            "permessage-deflate; server_max_window_bits=8; client_max_window_bits=12"
        );
    }

    #[test]
    fn client_accepts_what_it_offered() {
        let all = Agreed {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        };
        for (response, agreed) in [
            ("permessage-deflate", all),
            (
                "permessage-deflate; server_no_context_takeover",
                Agreed {
                    server_no_context_takeover: true,
                    ..all
                },
            ),
            (
                "permessage-deflate; client_no_context_takeover",
                Agreed {
                    client_no_context_takeover: true,
                    ..all
                },
            ),
            (
                "permessage-deflate; server_max_window_bits=\"10\"",
                Agreed {
                    server_max_window_bits: 10,
                    ..all
                },
            ),
            (
                "permessage-deflate; client_max_window_bits=8",
                Agreed {
                    client_max_window_bits: 8,
                    ..all
                },
            ),
        ] {
            assert_eq!(TAKEOVER.check([response]), Ok(Some(agreed)), "{response}");
        }
        assert_eq!(TAKEOVER.check([""; 0]), Ok(None));
        assert_eq!(TAKEOVER.check([" , "]), Ok(None));
    }

    #[test]
    fn client_fails_the_connection_on_a_response_it_did_not_offer() {
        use ExtensionError::*;
        let narrow = DeflatePolicy {
            server_max_window_bits: 10,
            client_max_window_bits: 10,
            ..TAKEOVER
        };
        let without = DeflatePolicy::default();
        for (policy, response, error) in [
            (TAKEOVER, "bzip", NotOffered { name: "bzip".into() }),
            (
                TAKEOVER,
                "permessage-deflate, bzip",
                NotOffered { name: "bzip".into() },
            ),
            (TAKEOVER, "permessage-deflate, permessage-deflate", Repeated),
            (
                TAKEOVER,
                "permessage-deflate; mystery",
                UnknownParameter {
                    name: "mystery".into(),
                },
            ),
            (TAKEOVER, "permessage-deflate;", Malformed),
            (TAKEOVER, "\"permessage-deflate\"", Malformed),
            (
                TAKEOVER,
                "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
                RepeatedParameter {
                    name: CLIENT_NO_CONTEXT_TAKEOVER,
                },
            ),
            (
                TAKEOVER,
                "permessage-deflate; server_no_context_takeover=1",
                InvalidValue {
                    name: SERVER_NO_CONTEXT_TAKEOVER,
                },
            ),
            (
                TAKEOVER,
                "permessage-deflate; server_max_window_bits",
                InvalidValue {
                    name: SERVER_MAX_WINDOW_BITS,
                },
            ),
            (
                TAKEOVER,
                "permessage-deflate; server_max_window_bits=16",
                InvalidValue {
                    name: SERVER_MAX_WINDOW_BITS,
                },
            ),
            (
                TAKEOVER,
                "permessage-deflate; client_max_window_bits",
                InvalidValue {
                    name: CLIENT_MAX_WINDOW_BITS,
                },
            ),
            (
                narrow,
                "permessage-deflate; server_max_window_bits=11",
                InvalidValue {
                    name: SERVER_MAX_WINDOW_BITS,
                },
            ),
            (
                narrow,
                "permessage-deflate",
                Ignored {
                    name: SERVER_MAX_WINDOW_BITS,
                },
            ),
            (
                narrow,
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11",
                InvalidValue {
                    name: CLIENT_MAX_WINDOW_BITS,
                },
            ),
            (
                without,
                "permessage-deflate",
                Ignored {
                    name: SERVER_NO_CONTEXT_TAKEOVER,
                },
            ),
        ] {
            assert_eq!(policy.check([response]), Err(error), "{response}");
        }
    }

    #[test]
    fn client_that_offered_nothing_accepts_nothing() {
        assert_eq!(check_none([""]), Ok(()));
        assert_eq!(
            check_none(["permessage-deflate"]),
            Err(ExtensionError::NotOffered {
                name: "permessage-deflate".into()
            })
        );
    }

    fn policies() -> impl Strategy<Value = DeflatePolicy> {
        (any::<bool>(), any::<bool>(), any::<u8>(), 8u8..=15).prop_map(
            |(server_takeover, client_takeover, server, client)| DeflatePolicy {
                server_takeover,
                client_takeover,
                server_max_window_bits: server % 18,
                client_max_window_bits: client,
            },
        )
    }

    /// Pieces of headers in any order.
    const ALMOST: &str = "((permessage-deflate|x|)[ ;,=\"\\\\]{0,3}\
                          ((server|client)_(max_window_bits|no_context_takeover)|[0-9]{1,3}|)){0,6}";

    proptest! {
        /// Also: both ends agree on the same thing.
        #[test]
        fn every_answer_passes_the_check_of_the_client_that_offered(
            server in policies(),
            client in policies(),
        ) {
            let (agreed, response) = server.negotiate([client.offer()]).unwrap();
            prop_assert_eq!(client.check([response]), Ok(Some(agreed)));
        }

        #[test]
        fn random_bytes_never_panic(header in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = DeflatePolicy::default().negotiate([&header]);
            let _ = DeflatePolicy::default().check([&header]);
            let _ = check_none([&header]);
        }

        #[test]
        fn almost_headers_never_panic(header in ALMOST) {
            if let Some((agreed, response)) = TAKEOVER.negotiate([&header]) {
                prop_assert_eq!(TAKEOVER.check([response]), Ok(Some(agreed)));
            }
            let _ = TAKEOVER.check([&header]);
        }
    }
}

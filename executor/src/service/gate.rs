//! The one authentication layer, in front of every RPC: it sees a request's
//! headers before anybody sees its body.

use std::pin::Pin;
use std::task::{Context, Poll};

use clutch_access::Token;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{Bytes, Service};
use tower::Layer;

use super::connection::Peer;
use super::entry::Entry;
use super::leash::{Asking, Full};

/// Puts a [`Gate`] before a service.
#[derive(Debug, Clone)]
pub(super) struct GateLayer(pub(super) Entry);

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, entry: self.0.clone() }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Gate<S> {
    inner: S,
    entry: Entry,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// A page in somebody's browser sent it.
    Browser,
    /// It is something else than gRPC, that of browsers included.
    NotGrpc,
    /// It shows no token.
    NoToken,
    /// It shows another one.
    WrongToken,
}

impl Refusal {
    const fn reason(self) -> &'static str {
        match self {
            Self::Browser => "it comes from a web page",
            Self::NotGrpc => "it is not gRPC",
            Self::NoToken => "it shows no token",
            Self::WrongToken => "it shows a wrong token",
        }
    }

    /// What the caller is told: nothing that helps to guess.
    fn status(self) -> Status {
        match self {
            Self::Browser | Self::NotGrpc => Status::permission_denied("refused"),
            Self::NoToken | Self::WrongToken => Status::unauthenticated("unauthenticated"),
        }
    }
}

/// Decides by the headers alone. Without a token, the connection has shown who
/// calls.
fn judge(headers: &HeaderMap, token: Option<&Token>) -> Result<(), Refusal> {
    if headers.contains_key(ORIGIN) {
        return Err(Refusal::Browser);
    }
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let is_grpc = kind
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"));
    if !is_grpc {
        return Err(Refusal::NotGrpc);
    }
    let Some(token) = token else { return Ok(()) };
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(shown), None) = (shown.next(), shown.next()) else { return Err(Refusal::NoToken) };
    let digits = shown.as_bytes().strip_prefix(b"Bearer ").ok_or(Refusal::NoToken)?;
    match Token::parse(digits) {
        Ok(shown) if token.is(&shown) => Ok(()),
        Ok(_) | Err(_) => Err(Refusal::WrongToken),
    }
}

impl<S> Gate<S> {
    /// Lets a request in, or gives what to answer.
    fn admit(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Asking, Status> {
        // The server puts it there for each connection.
        let Some(Peer { leash, .. }) = peer else {
            return Err(Status::internal("the connection is not known"));
        };
        if let Err(refusal) = judge(headers, self.entry.token()) {
            self.entry.complain(leash, "request", refusal.reason());
            leash.fail();
            return Err(refusal.status());
        }
        leash.admit(self.entry.room()).map_err(|Full| {
            let most = self.entry.max_connections();
            Status::resource_exhausted(format!(
                "the agent has {most} connections, and its setting `max-connections` allows no more"
            ))
        })
    }
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let asking = match self.admit(request.headers(), peer) {
            Ok(asking) => asking,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        // Nobody behind the gate needs it, and so nobody can log it.
        request.headers_mut().remove(AUTHORIZATION);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| Body::new(Answering { body, _asking: asking })))
        })
    }
}

/// An answer; while it lasts, its connection is in use.
struct Answering {
    body: Body,
    _asking: Asking,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_grpc_with_the_one_token_passes() {
        let token = Token::random().unwrap();
        let other = Token::random().unwrap();
        let grpc = || ("content-type", "application/grpc".to_owned());
        let shows = |text: String| ("authorization", text);
        let good = || shows(format!("Bearer {}", *token.text()));
        let cases = [
            (vec![grpc(), good()], Ok(())),
            (vec![("content-type", "application/grpc+proto".to_owned()), good()], Ok(())),
            (vec![grpc()], Err(Refusal::NoToken)),
            (vec![grpc(), shows(token.text().to_string())], Err(Refusal::NoToken)),
            (vec![grpc(), good(), good()], Err(Refusal::NoToken)),
            (vec![grpc(), shows(format!("Bearer {}", *other.text()))], Err(Refusal::WrongToken)),
            (vec![grpc(), shows("Bearer ".to_owned())], Err(Refusal::WrongToken)),
            (vec![grpc(), shows(format!("Bearer {}00", *token.text()))], Err(Refusal::WrongToken)),
            (vec![good()], Err(Refusal::NotGrpc)),
            (
                vec![("content-type", "application/grpc-web".to_owned()), good()],
                Err(Refusal::NotGrpc),
            ),
            (vec![grpc(), good(), ("origin", "https://x".to_owned())], Err(Refusal::Browser)),
        ];
        for (pairs, expected) in cases {
            let shown = headers(&pairs);
            // Appended, not replaced: some show two tokens.
            let mut all = HeaderMap::new();
            for (name, value) in &pairs {
                all.append(*name, value.parse().unwrap());
            }
            assert_eq!(judge(&all, Some(&token)), expected, "{shown:?}");
        }
    }

    #[test]
    fn where_the_kernel_knows_who_calls_browsers_are_refused_all_the_same() {
        let grpc = headers(&[("content-type", "application/grpc".to_owned())]);
        assert_eq!(judge(&grpc, None), Ok(()));
        assert_eq!(judge(&HeaderMap::new(), None), Err(Refusal::NotGrpc));
    }

    #[test]
    fn callers_are_told_nothing_of_use() {
        for refusal in [Refusal::NoToken, Refusal::WrongToken] {
            assert_eq!(refusal.status().message(), "unauthenticated");
        }
    }
}

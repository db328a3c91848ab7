//! Whether a driver ended its stream in order.
//!
//! tonic does not tell: to it a stream that was cancelled has ended too, as has
//! one whose connection we gave up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// Set when the driver said that it has said everything. Requests have it among
/// their extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct SaidAll(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    ended: AtomicBool,
    cancelled: AtomicBool,
}

impl SaidAll {
    /// Whether it did.
    pub(crate) fn is_set(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }

    /// Whether it gave its stream up instead.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }
}

/// A service whose requests tell how they ended.
#[derive(Debug, Clone)]
pub(crate) struct Noting<S>(pub(crate) S);

impl<S: NamedService> NamedService for Noting<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Noting<S>
where
    S: Service<http::Request<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let said_all = SaidAll::default();
        let marks = Arc::clone(&said_all.0);
        let mut request = request.map(|body| Body::new(Noted { body, marks }));
        request.extensions_mut().insert(said_all);
        self.0.call(request)
    }
}

/// A request's body that notes its end.
struct Noted {
    body: Body,
    marks: Arc<Marks>,
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            // HTTP/2 knows whether it was the end, or there is just no more.
            Poll::Ready(None) if self.body.is_end_stream() => {
                self.marks.ended.store(true, Ordering::Release);
            }
            Poll::Ready(Some(Err(status))) if status.code() == tonic::Code::Cancelled => {
                self.marks.cancelled.store(true, Ordering::Release);
            }
            Poll::Ready(_) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

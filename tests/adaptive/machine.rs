//! What a batch runs on, and what its items do there: numbers only.

/// One thing that an item does; times in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Compute(f64),
    /// Computing that is bound by the memory's bandwidth.
    Memory(f64),
    /// Computing that slows others down, by the cache lines it shares with them.
    Spin(f64),
    /// Computing in a child process: the thread's CPU time does not show it.
    Child(f64),
    Sleep(f64),
    /// A request to the backend of that number.
    Request(usize, f64),
    /// Computing with the machine's one lock held.
    Locked(f64),
    /// Waiting for a rate limit of which the executor knows nothing.
    Token,
    /// The item fails here.
    Fail,
}

/// A server with this many seats, whose work takes 1 + `decline` x (n - seats) / seats as long with n requests in it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Backend {
    /// Who finds no seat stands in a queue.
    Queue { seats: usize, decline: f64 },
    /// All are served at once, each so much slower.
    Sharing { seats: f64, decline: f64 },
    /// A request that finds no seat is refused, after this many seconds.
    Refusing { seats: usize, after: f64 },
}

/// Permits a second, and how many may be saved up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) cores: f64,
    /// Cores that other processes take.
    pub(crate) background: f64,
    /// This many threads saturate the memory; each one above takes this share of what there is.
    pub(crate) memory: (f64, f64),
    /// Gunther's universal scalability law: contention and coherency.
    pub(crate) spin: (f64, f64),
    pub(crate) backends: Vec<Backend>,
    /// What each thread that waits for the lock adds to the time it is held.
    pub(crate) convoy: f64,
    pub(crate) hidden_rate: Option<Rate>,
    /// The executor's own limiter.
    pub(crate) limiter: Option<Rate>,
    /// The items that a worker takes at once.
    pub(crate) claim: usize,
    /// After how many seconds an item that failed is tried again, if it is.
    pub(crate) retry: Option<f64>,
}

impl Machine {
    pub(crate) fn new(cores: usize) -> Self {
        Machine {
            cores: cores as f64,
            background: 0.0,
            memory: (f64::INFINITY, 0.0),
            spin: (0.0, 0.0),
            backends: Vec::new(),
            convoy: 0.0,
            hidden_rate: None,
            limiter: None,
            claim: 1,
            retry: None,
        }
    }

    pub(crate) fn queue(mut self, seats: usize, decline: f64) -> Self {
        self.backends.push(Backend::Queue { seats, decline });
        self
    }

    pub(crate) fn sharing(mut self, seats: f64, decline: f64) -> Self {
        self.backends.push(Backend::Sharing { seats, decline });
        self
    }

    pub(crate) fn refusing(mut self, seats: usize, after: f64) -> Self {
        self.backends.push(Backend::Refusing { seats, after });
        self
    }

    pub(crate) fn retry(mut self, after: f64) -> Self {
        self.retry = Some(after);
        self
    }

    pub(crate) fn background(mut self, cores: f64) -> Self {
        self.background = cores;
        self
    }

    pub(crate) fn memory(mut self, saturates: f64, decline: f64) -> Self {
        self.memory = (saturates, decline);
        self
    }

    pub(crate) fn spin(mut self, contention: f64, coherency: f64) -> Self {
        self.spin = (contention, coherency);
        self
    }

    pub(crate) fn convoy(mut self, each: f64) -> Self {
        self.convoy = each;
        self
    }

    pub(crate) fn hidden_rate(mut self, per_second: f64, burst: f64) -> Self {
        self.hidden_rate = Some(Rate { per_second, burst });
        self
    }

    pub(crate) fn limiter(mut self, per_second: f64, burst: f64) -> Self {
        self.limiter = Some(Rate { per_second, burst });
        self
    }

    pub(crate) fn claims_of(mut self, items: usize) -> Self {
        self.claim = items;
        self
    }

    /// The cores left to the batch.
    pub(crate) fn available(&self) -> f64 {
        (self.cores - self.background).max(0.5)
    }
}

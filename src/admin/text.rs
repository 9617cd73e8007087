//! Which text format a scraper is given, and the classic one made from OpenMetrics.
//!
//! OpenMetrics 1.0.0 names a counter's family without `_total`, has `# UNIT` and ends in `# EOF`; the classic
//! format 0.0.4 names the samples. A scraper gets OpenMetrics only if it asks for it by name; Prometheus does.

/// The two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics text format 1.0.0.
    OpenMetrics,
}

impl TextFormat {
    /// What the `Accept` field asks for.
    pub fn negotiate(accept: &str) -> TextFormat {
        let asked = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
            named && parts.all(|parameter| !is_zero_quality(parameter))
        });
        if asked { TextFormat::OpenMetrics } else { TextFormat::Classic }
    }

    /// The `Content-Type` that says which it is.
    pub fn content_type(self) -> &'static str {
        match self {
            TextFormat::Classic => "text/plain; version=0.0.4; charset=utf-8",
            TextFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

fn is_zero_quality(parameter: &str) -> bool {
    parameter.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
}

/// OpenMetrics text as classic text. Families without a sample are left out, as they say nothing.
pub fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let (mut help, mut head) = ("", None);
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            head = rest.split_once(' ').map(|(name, kind)| (name, kind, help));
        } else if !line.starts_with('#') {
            if let Some((name, kind, help)) = head.take() {
                describe(name, kind, help, &mut out);
            }
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn describe(name: &str, kind: &str, help: &str, out: &mut String) {
    let suffix = if kind == "counter" { "_total" } else { "" };
    let help = help.split_once(' ').map_or("", |(_, help)| help);
    for part in ["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"] {
        out.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_open_metrics_only_to_who_asks() {
        let check =
            |accept: &str, want| assert_eq!(TextFormat::negotiate(accept), want, "{accept}");
        check("", TextFormat::Classic);
        check("*/*", TextFormat::Classic);
        check("text/plain;version=0.0.4;q=0.5", TextFormat::Classic);
        check(
            "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5,*/*;q=0.1",
            TextFormat::OpenMetrics,
        );
        check("application/openmetrics-text;q=0, text/plain", TextFormat::Classic);
    }

    #[test]
    fn a_counter_is_named_by_its_samples() {
        let open = "# HELP a_b Some help.\n# TYPE a_b counter\na_b_total{x=\"1\"} 2\n\
                    # HELP none No sample.\n# TYPE none counter\n\
                    # HELP g A gauge.\n# TYPE g gauge\n# UNIT g bytes\ng 1\n# EOF\n";
        let want = "# HELP a_b_total Some help.\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 2\n\
                    # HELP g A gauge.\n# TYPE g gauge\ng 1\n";
        assert_eq!(classic(open), want);
    }
}

"""What the page's scripts draw from: plain tables and lists, bounded in size, made JSON by `relax_rl.reports.payload`."""

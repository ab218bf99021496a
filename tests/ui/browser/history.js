// Two weeks of a team's work up to now, the same in every run but for the time.

/** Numbers that look random. @param {number} seed */
function dice(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const USERS = ["ali", "sara", "reza", "مریم", "nima", "leila", "david", "chen", "amir", "zahra", "tom", "kaveh"];
const CODES = [
  'import pandas as pd\ndf = pd.read_csv("orders.csv", parse_dates=["created_at"])\ndf.groupby("region")["total"].sum().sort_values()', "model.fit(X_train, y_train)\nprint(model.score(X_test, y_test))", "SELECT region, sum(total)\nFROM orders\nWHERE created_at > now() - interval '7 days'\nGROUP BY region",
  "for batch in loader:\n    loss = step(batch)\n    history.append(float(loss))", "plt.plot(history)\nplt.title('Loss curve')", "df = df.dropna(subset=['price'])\ndf.describe()", "# پاک‌سازی داده‌ها\nدیتا = df[df['قیمت'] > 0]", 'requests.get(f"https://api.example.org/v1/items/{item_id}", timeout=10).json()',
  "library(dplyr)\norders %>% group_by(region) %>% summarise(total = sum(total))", "%timeit -n 100 compute(df, 53)", "from sklearn.model_selection import train_test_split\nX_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2)",
];
const ERRORS = [["ZeroDivisionError", "division by zero"], ["KeyError", "'region'"], ["ModuleNotFoundError", "No module named 'torch'"], ["ValueError", "could not convert string to float: 'n/a'"], ["MemoryError", "Unable to allocate 3.2 GiB for an array with shape (430000000,)"]];
const ENDPOINTS = ["/api/orders", "/api/orders/{id}", "/api/reports/daily", "/api/upload", "/api/chat"];
const DAY = 86_400_000;

/** When the team stopped: an afternoon in the middle of a week, whatever the clock says while the tests run. */
const END = Date.UTC(2026, 10, 26, 18);

export function history(count = 8000, now = Date.now()) {
  const roll = dice(7);
  const pick = (list) => list[Math.floor(roll() * list.length)];
  const events = [];
  while (events.length < count) {
    const day = Math.floor(roll() * 14);
    const hour = 12.5 + (roll() + roll() + roll() - 1.5) * 8;
    const at = Math.floor(END / DAY) * DAY - day * DAY + hour * 3_600_000 + roll() * 1000;
    const weekday = new Date(at).getUTCDay();
    if (at > END || ((weekday === 5 || weekday === 6) && roll() < 0.7)) continue;
    events.push(roll() < 0.22 ? request(at, roll, pick) : run(at, roll, pick));
  }
  events.sort((a, b) => (a.timestamp < b.timestamp ? -1 : 1));
  return events.map((event) => ({ ...event, timestamp: new Date(Date.parse(event.timestamp) + now - END).toISOString() }));
}

const userOf = (roll) => USERS[Math.floor(roll() * roll() * USERS.length)];
const round = (value) => Math.round(value * 10) / 10;

function request(at, roll, pick) {
  const isFine = roll() < 0.95;
  const event = { timestamp: new Date(at).toISOString(), event_type: "api.request", user_id: userOf(roll), endpoint: pick(ENDPOINTS), http_method: pick(["GET", "POST"]), status_code: isFine ? 200 : 500, status: isFine ? "success" : "error", duration_ms: round(5 + 400 * roll() ** 3), ip_address: `10.0.1.${Math.floor(roll() * 250)}` };
  return isFine ? event : { ...event, error_type: "TimeoutError", error_message: "upstream timed out after 30 s" };
}

function run(at, roll, pick) {
  const user = userOf(roll);
  const code = pick(CODES);
  const isFine = roll() < 0.91;
  const day = new Date(at).toISOString().slice(5, 10);
  const event = {
    timestamp: new Date(at).toISOString(), event_type: "cell.finish", user_id: user, session_id: `${user}-${day}-${Math.floor(new Date(at).getUTCHours() / 4)}`, cell_number: 1 + Math.floor(roll() * 40), code, language: code.startsWith("SELECT") ? "sql" : code.startsWith("library") ? "r" : "python",
    notebook: pick(["sales.ipynb", "churn.ipynb", "train.ipynb"]), host: `nb-${1 + Math.floor(roll() * 6)}`, duration_ms: round(8 + 9000 * roll() ** 6), status: isFine ? "success" : "error", metadata: { kernel: "python3", tags: ["weekly", "draft"], gpu: { name: "A100", memory_gib: 40 } },
  };
  if (isFine) return event;
  const [type, message] = pick(ERRORS);
  return { ...event, error_type: type, error_message: `${type}: ${message}`, error_trace: `Traceback (most recent call last):\n  File "<ipython-input-17>", line 3, in <module>\n    result = compute(df, 53)\n  File "/srv/lib/compute.py", line 88, in compute\n    return total / count\n${type}: ${message}` };
}

//! Tests of values and expressions in the notations of programs and people.

use super::*;

/// What is taken of a text, seen from each place of a name in turn.
fn taken(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let reader = Reader::new(text.as_bytes());
    let mut found = Vec::new();
    let words = [
        "passw", "getpass", "mot de", "pwd", "secret", "token", "key", "authoriz", "cookie", "fied ", "rootpw",
        "requirep",
    ];
    let mut places: Vec<usize> = words.iter().flat_map(|word| lower.match_indices(word)).map(|(at, _)| at).collect();
    places.sort_unstable();
    for at in places {
        values(&reader, at, &mut found);
    }
    found.first().map(|found| &text[found.range.clone()])
}

#[test]
fn values_are_taken_in_the_forms_programs_write() {
    for (text, expected) in [
        ("host=db user=app password=S3cr42!x dbname=prod", "S3cr42!x"),
        ("ssh_password: 'dK54FAgZtODOVm9'", "dK54FAgZtODOVm9"),
        ("password = 'topsecret'", "topsecret"),
        ("func getBetterToken() string { return \"ntJD0ER8QpuT0O1WqsclApO2\" }", "ntJD0ER8QpuT0O1WqsclApO2"),
        ("def get_password():\n    return \"Summer2024!\"", "Summer2024!"),
        ("fn api_key() -> &'static str { \"kQ7wErTyUi0pAs9DxZ1\" }", "kQ7wErTyUi0pAs9DxZ1"),
        ("fun apiKey(): String = \"kQ7wErTyUi0pAs9DxZ1\"", "kQ7wErTyUi0pAs9DxZ1"),
        ("foo(\"kQ7wErTyUi0pAs9DxZ1\") // the token", "kQ7wErTyUi0pAs9DxZ1"),
        ("const getPassword = () => \"Summer2024!\"", "Summer2024!"),
        ("EXECUTE('CREATE LOGIN x WITH PASSWORD = ''P@ss.4711'' ')", "P@ss.4711"),
        ("EXECUTE('EXECUTE(''CREATE LOGIN x WITH PASSWORD = P@ss.4711 '')')", "P@ss.4711"),
        ("1,\"{\"\"user\"\": \"\"eva\"\", \"\"password\"\": \"\"Summer2024!\"\"}\",2", "Summer2024!"),
        ("field.type(\"Liverpool#1\")  # password", "Liverpool#1"),
        ("username = eva, password = letmein99", "letmein99"),
        ("use password Welcome1 for the vpn", "Welcome1"),
        ("javax.net.ssl.trustStorePassword = Welcome1", "Welcome1"),
        ("{db_host=x, db_password=swordfish, pool=5}", "swordfish"),
        ("CREATE DATABASE LINK l CONNECT TO u IDENTIFIED BY letmein99 USING 'x'", "letmein99"),
        ("\\set DB_PASSWORD letmein99", "letmein99"),
        (
            "<secret>{AQAAABAAAAAQ5ZPF0xuQIeWFVEp8k8Uu9FwPx6X5C8IV=}</secret>",
            "{AQAAABAAAAAQ5ZPF0xuQIeWFVEp8k8Uu9FwPx6X5C8IV=}",
        ),
        ("{\"tokens\":[\"b2fd1ad42f706a73\"]}", "b2fd1ad42f706a73"),
        ("password::String = \"hunter2\"", "hunter2"),
        ("PRAGMA key = 'correct horse battery';", "correct horse battery"),
        ("USING (SELECT 'password' AS name, 'hunter2' AS value FROM dual) d", "hunter2"),
        ("E  assert 'hunter2' == settings.password", "hunter2"),
        ("{'user': {0: 'ann'}, 'password': {0: 'hunter2'}}", "hunter2"),
        ("rclone config create r s3 secret_access_key hunter2x", "hunter2x"),
        ("Map(\"user\" -> \"bob\", \"user_password\" -> \"sunshine\")", "sunshine"),
        ("rootpw dragonfly", "dragonfly"),
        ("requirepass dragonfly", "dragonfly"),
        ("machine h.example\n  login bob\n  password dragonfly\n", "dragonfly"),
        ("PASSWORDS = {\"bob\": \"monkey1378\", \"eve\": \"x\"}", "monkey1378"),
        ("token=hunter2", "hunter2"),
        ("TOKEN=рассвет7", "рассвет7"),
        ("X-Custom-Token: hunter2\n", "hunter2"),
        ("API_KEY=letme_77", "letme_77"),
        ("GET /cb?token=hunter2&state=4 HTTP/1.1", "hunter2"),
        ("password: MATCH_2024\nuser: bob\n", "MATCH_2024"),
        ("le mot de passe est « dragonfly »", "dragonfly"),
        ("   login   password\n0    bob    hunter2\n1    eve  xyzzy42\n", "hunter2"),
        (" login | password\n-------+----------\n bob   | hunter2\n", "hunter2"),
        ("| login | password |\n+-------+----------+\n| bob   | hunter2  |\n", "hunter2"),
        ("┃ login ┃ password ┃\n┡━━━╇━━━┩\n│ bob │ hunter2 │\n", "hunter2"),
        ("│ password │ hunter2 │", "hunter2"),
        ("pd.DataFrame([[1, 'bob', 'hunter2']], columns=['n', 'login', 'password'])", "hunter2"),
        ("(user, password) = ('bob', 'hunter2')", "hunter2"),
        ("é, password = 'bob', 'hunter2'", "hunter2"),
        ("1 validation error for Settings\npassword\n  too short [input_value='hunter2', input_type=str]", "hunter2"),
        ("SELECT 'bob' AS login, 'hunter2' AS password", "hunter2"),
        ("widgets.Password(value='hunter2', description='x')", "hunter2"),
        ("flag.String(\"password\", \"hunter2\", \"what to use\")", "hunter2"),
        ("requirepassword \"sunshine\"", "sunshine"),
        ("COPY t CREDENTIALS 'key_id=x;secret_access_key=kQ7wErTyUi0pAs9D' CSV", "kQ7wErTyUi0pAs9D"),
        ("password = 'hunter2'", "hunter2"),
        ("password = 'Password1!'", "Password1!"),
        ("PGPASSWORD=hunter2 psql", "hunter2"),
        ("export DB_PASSWORD=\"p w\"", "p w"),
        (r#"{"password": "x"}"#, "x"),
        (r#"{\"password\":\"x y\"}"#, "x y"),
        (r#"{\\\"password\\\":\\\"xy\\\"}"#, "xy"),
        ("os.environ['SECRET_KEY'] = 'abc123def'", "abc123def"),
        ("password: str = \"hunter2\"", "hunter2"),
        ("password: hunter2", "hunter2"),
        ("mysql --password hunter2 -h db", "hunter2"),
        ("https://x.example/?access_token=abcdef123456&y=1", "abcdef123456"),
        ("Authorization: Bearer abc", "abc"),
        ("-H 'Authorization: Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
        ("Cookie: sid=1f3a9; b=2\r\nHost: x", "1f3a9"),
        ("Server=x;Password=ab,c;User=y", "ab,c"),
        ("{password=S3cr9x,user=x}", "S3cr9x"),
        ("api_key => \"abcd4efgh\"", "abcd4efgh"),
        ("password=\"unclosed", "unclosed"),
        ("Authorization: Basic VHIwdWI0ZG9y =", "VHIwdWI0ZG9y"),
        ("it's odd, api_key: 'Tr0ub4dor&3x'", "Tr0ub4dor&3x"),
        ("DB_PASSWORD=lM&5S&$Vl33m", "lM&5S&$Vl33m"),
        ("os.getenv(\"DB_PASSWORD\", \"hunter2\")", "hunter2"),
        ("CREATE USER bob IDENTIFIED BY 'hunter2'", "hunter2"),
        ("SET PASSWORD FOR 'bob'@'%' = 'hunter2';", "hunter2"),
        ("input_password.send_keys(\"hunter2\")", "hunter2"),
        ("cy.get('#password').clear().type('hunter2')", "hunter2"),
        ("ALTER ROLE bob PASSWORD 'hunter2'", "hunter2"),
        ("password <- \"hunter2\"", "hunter2"),
        ("password = SecretStr(\"hunter2\")", "hunter2"),
        ("password = os.getenv('X') or 'hunter2'", "hunter2"),
        ("<password>hunter2</password>", "hunter2"),
        ("[\"--password\", \"hunter2\"]", "hunter2"),
        ("INSERT INTO u (name, password) VALUES ('bob', 'hunter2')", "hunter2"),
        ("-H \"Authorization: Basic dXNlcjpodW50ZXIyIQ==\"", "dXNlcjpodW50ZXIyIQ=="),
        ("const apiKey =\n    \"kQ7wErTyUi0pAs9D\";", "kQ7wErTyUi0pAs9D"),
        ("API_TOKEN ::= kQ7wErTyUi0pAs9D", "kQ7wErTyUi0pAs9D"),
        ("GET /maps?key=kQ7wErTyUi0pAs9DfGh2&q=x", "kQ7wErTyUi0pAs9DfGh2"),
        ("print(f\"password={'hunter2'}\")", "hunter2"),
        ("discordToken = \"45440581329434174484560\"", "45440581329434174484560"),
        ("if \"hunter2\" == password:", "hunter2"),
        ("setx API_KEY \"hunter2xyz9\"", "hunter2xyz9"),
        ("SECRET_KEY = \"qwerty-007\"", "qwerty-007"),
        ("KAGGLE_KEY=Naghmeh99!", "Naghmeh99!"),
        ("password = 'MySecretPass123!'", "MySecretPass123!"),
        ("password = 'm{{h}o)p${e]no(dy[fi9>-_$#x}}'", "m{{h}o)p${e]no(dy[fi9>-_$#x}}"),
        ("password := `Rq7{mKx2`", "Rq7{mKx2"),
        ("password = 'Rq7!mKx2:'", "Rq7!mKx2:"),
        ("<password>OV0PY{]LHXgDp2</password>", "OV0PY{]LHXgDp2"),
        ("password = lambda: 'hunter2'", "hunter2"),
        ("getpass.getpass = lambda *a: 'hunter2'", "hunter2"),
        ("password_payments = \"kQ7wErTyUi0pAs9DfGh2\"", "kQ7wErTyUi0pAs9DfGh2"),
        ("Password for 'https://bob@x.example': hunter2", "hunter2"),
        ("Password for \"bob\": hunter2", "hunter2"),
        ("bob: what is the password?\neve: it's hunter2, why", "hunter2"),
        ("Q: password for the vpn?\nA: hunter2", "hunter2"),
        ("Das Passwort lautet sunshine.", "sunshine"),
        ("Le mot de passe est « hunter2 ».", "hunter2"),
        ("--secret-string '{\"user\":\"bob\",\"password\":\"hunter2\"}'", "hunter2"),
        ("keys:\n  - kQ7wErTyUi0pAs9DfGh2", "kQ7wErTyUi0pAs9DfGh2"),
        ("execute(\"INSERT INTO u (name, password) VALUES (?, ?)\", (\"bob\", \"hunter2\"))", "hunter2"),
        ("INSERT INTO u (name, password) VALUES (?, ?)\n[generated in 0.01s] ('bob', 'hunter2')", "hunter2"),
        ("db.run('INSERT INTO u (name, password) VALUES ($1, $2)', ['bob', 'hunter2'])", "hunter2"),
        ("execute(\"UPDATE u SET seen = %s, password = %s WHERE id = %s\", (1, \"hunter2\", 4))", "hunter2"),
        ("kind: Secret\ndata:\n  extra: aHVudGVyMg==\n", "aHVudGVyMg=="),
        ("kind: \"Secret\"\nstringData:\n  file: |\n    hunter2x\n", "hunter2x"),
    ] {
        assert_eq!(taken(text), Some(expected), "{text}");
    }
}

#[test]
fn code_and_prose_about_secrets_stay() {
    for text in [
        "   id  tokens  cost\n0   1    4096  0.12\n",
        "  login      password_age\n0   bob  12\n",
        "    return token\n    x1 = 5\n",
        " id | token_count\n----+-------------\n  1 | 12\n",
        "┃ token ┃ count ┃\n│ the │ 5122 │\n",
        "df = pd.DataFrame(rows, columns=['login', 'password'])",
        "(user, password) = read('bob', 'x')",
        "parser.add_argument('--password', help='password of the user', default=None)",
        "token = MATCH_2024",
        "keys: ['sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855']",
        "getpass = lambda prompt: \"never\"",
        "password = getpass.getpass()",
        "getpass = lambda prompt: 'never'",
        "password = lambda: next(values)",
        "const password = `${prefix}9x`",
        "System.Data, Culture=neutral, PublicKeyToken=b77a5c561934e089",
        "Convey(\"Change password: PUT /user/cgpasswd\", t, func() {",
        "Set-Account -AccountPassword $newpass -Credential $creds;",
        "env[DB_1_ENV_PASSWORD] = $DB_1_ENV_MYSQL_PASSWORD",
        "dn: cn=password,ou=policies2,dc=example",
        "-W, --password               force password prompt",
        "TSIG_SECRET=\"$( awk -F'[ \";]' '/secret/ { print $3 }' $keyfile )\"",
        "db.Exec(`ALTER USER ` + user + ` PASSWORD '` + newpw + `'`)",
        "q = \"password='\" + str(newpw) + \"'\"",
        "\"LABEL_PASSWORD\": \"Heslo\",",
        "\"FORGOT_PASSWORD\": \"Passwort vergessen?\",",
        "\"MANDATORY_PASSWORD\": \"請提供密碼。\",",
        "password: Jelszó",
        "password: สิ่งที่ต้องการคือรหัสผ่าน",
        "<PasswordField value={password} onChange={setPassword} />",
        "return f'Authorization: Bearer {token}'",
        "# Authorization: Token {extracted value}",
        "EC_KEY *EVP_PKEY_get1_EC_KEY(EVP_PKEY *pkey)",
        "const ECX_KEY *edkey = evp_pkey_get_legacy(EVP_MD_CTX_get_pkey_ctx(ctx)->pkey);",
        "private_key: SignatureAlgorithm::Ecdsa,",
        "\"client-key-data\": TEST_CLIENT_KEY_BASE64,",
        "{\"PASSWORD\": mock_challenge}",
        "const secretValue = 0x53c237_53c237",
        "ROOT_PASSWORD = 44",
        "print \"key: `$key_pem', password: `$password'\";",
        "apt\tpasswd\t1:4.13+dfsg1-1+deb12u1",
        "your-api.key v0.11.0-RC3",
        "introduzca la contraseña: una frase secreta",
        "\"secret\": \"\\u3299\\ufe0f\",",
        "connect(\"user=scram password=password dbname=postgres\")",
        "{'password': '-W'}",
        "<li><a href=\"#x\">as_password</a></li><li><a href=\"#y\">as_password_mut2</a></li>",
        "<password>proxypass</password><host>proxy7.example.net</host>",
        "loadCredential(got, \"api.github.com/foo/bar\")",
        "return &verify($password}|$regd8|($pg<<10)|1",
        "def get_password(): return \"Password\"",
        "x = label(\"Your name\")  # password",
        "x = password() or other(\"abc123x\")",
        "password = ''",
        "x = '' if password else 'abc'",
        "password = '{{ user.password | default(\"x1\") }}'",
        "password = '${{ secrets.DB_PASSWORD }}'",
        "password: 'Password2:'",
        "if hashed_password.startswith('argon2:'):",
        "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
        "update_password: on_create",
        "--from-file=password=./pw.txt",
        "password_version = 'kQ7wErTyUi0pAs9DfGh2'",
        "api_key = 'my-app-2'",
        "what is the password?\nwe have none",
        "Password for 'https://bob@x.example': \nnext",
        "Das Passwort lautet anders als gestern.",
        "execute(\"INSERT INTO u (name, password) VALUES (?, ?)\", (name, password))",
        "execute(\"INSERT INTO u (name, city) VALUES (?, ?)\", (\"bob\", \"hunter2\"))",
        "execute(\"SELECT 1 WHERE password = ?\", rows[0], (\"a\", \"hunter2\"))",
        "token = os.environ['TOKEN']",
        "password = None",
        "def f(password: str):",
        "connect(password=password)",
        "connect(password=config.password)",
        "connect(password=pw1)",
        "input(\"password: \")",
        "print('api_key: ' + api_key)",
        "Password: must be long",
        "password = f\"{password}\"",
        "token = next(tokens)",
        "for token in tokens:",
        "tokenizer.pad_token = tokenizer.eos_token",
        "max_token=100",
        "pwd = /home/x",
        "PWD=/srv",
        "password=${PASSWORD}",
        "token: the token to use",
        "password=***",
        "sort_key = 'abcdefgh'",
        "if token == 'cat':",
        "secret=",
        "password: Optional[str] = None",
        "password = pw",
        "self.password = user_pass",
        "headers[\"Authorization\"] = auth",
        "def f(cookie: str, path: str)",
        "cookies: dict[str, str] | None",
        "private_key: Ed25519PrivateKey",
        "    private_key: PKCS7PrivateKeyTypes,",
        "    password: SecretStr",
        "login_and_password: _TriStateType",
        "    passwd: PhantomPinned,\n",
        "pub log_passwd: __u32,\n",
        "passwd :meth:`peek` a value",
        "read the username/password from $HOME/.pypirc,",
        "let token = Literal::u8_unsuffixed(0);",
        "let _bracket_token = syn::bracketed!(content in input);",
        "password: user?.password",
        "SELECT 1 WHERE password = :pw",
        "SELECT 1 WHERE password = ?",
        "SELECT 1 WHERE password = $1",
        "password = new Password(x)",
        "elif token == \"#bygroup\"",
        "\"token_str\": \" the\"",
        "\"input_token\": \"next_token\"",
        "\"jsonwebtoken\": \"^9.0.2\"",
        "x = {\"secret\": \"AWS::IAM::AccessKey\"}",
        "arn:aws:secretsmanager:eu-west-1:1:secret:prod/db",
        "API_KEY = \"YOUR_API_KEY\"",
        "password: changeme",
        "password=<password>",
        "if k == \"cookie\":\n    serve(x)",
        "cookie: exec(open('x').read())",
        "{\"cookies\": true}",
        "def f() -> \"PrivateKey\":\n    \"\"\"Loads 1 key, or 2.\"\"\"",
        "[\"username\", \"password\", \"email\"]",
        "password_encryption = scram-sha-256",
        "the shell won't set PWD automatically",
        "password <https://docs.example/?q=1>",
        "PuttyPassword=0",
        "api_key = \"acme_xxxxxxxxxxxxxxxxxxxxxxxx\"",
        "io.jsonwebtoken:jjwt-jackson-0.11.2",
        "kind: SecretList\ndata:\n  extra: aHVudGVyMg==\n",
        "kind: ConfigMap\ndata:\n  extra: aHVudGVyMg==\n",
        "cache[?key=kQ7wErTy]",
        "std::token::type = next",
        "PRAGMA key = :key",
        "SELECT 'password' AS label, 'Enter it here' AS hint",
        "SELECT 'token' AS kind, 'active' AS status",
        "{'password': {0: None, 1: ''}}",
        "{'password': {'min': 8}}",
        "token=base64",
        "token=oauth2",
        "token = hunter2",
        "token: hunter2",
        "{'token': 'covid19'}",
        "f(token=hunter2)",
        "x.token = MATCH_2024",
        "match (password, MATCH_2024) {",
    ] {
        assert_eq!(taken(text), None, "{text}");
    }
}

#[test]
fn a_bearer_token_is_found_without_its_header() {
    let bearer = |text: &str, at| bearer(&Reader::new(text.as_bytes()), at);
    assert_eq!(bearer("curl -H \"Bearer abcdef0123456789ABCDEF\"", 9), Some(16..38));
    assert_eq!(bearer("Bearer {token}", 0), None);
    assert_eq!(bearer("bearer of bad news which is long", 0), None);
    let basic = |text: &str, at| basic(&Reader::new(text.as_bytes()), at);
    assert_eq!(basic("if auth != \"Basic dG9rZW46c2VjcmV0\" {", 12), Some(18..34));
    assert_eq!(basic("Basic information", 0), None);
    assert_eq!(basic("Basic AAAABBBBCCCC", 0), None);
}

/// What the call whose name holds `word` is given that is a secret.
fn given<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let reader = Reader::new(text.as_bytes());
    let mut found = Vec::new();
    call_values(&reader, text.find(word).expect("named"), &mut found);
    found.first().map(|found| &text[found.range.clone()])
}

#[test]
fn calls_that_log_in_are_given_a_password_at_its_place() {
    for (text, word, expected) in [
        ("DriverManager.getConnection(url, \"bob\", \"hunter2\")", "getConn", "hunter2"),
        ("ssh.connect('h', 22, 'bob', 'hunter2')", "connect", "hunter2"),
        ("smtp.login(\"bob\", \"hunter2\")", "login", "hunter2"),
        ("requests.get(u, auth=HTTPBasicAuth(\"bob\", \"hunter2\"))", "BasicAuth", "hunter2"),
        ("new mysqli(\"h\", \"bob\", \"hunter2\", \"x\")", "mysqli", "hunter2"),
        ("select pgp_sym_decrypt(f(data, 1), 'hunter2')", "pgp_", "hunter2"),
        ("jwt.encode(payload, 's3cretkey9', algorithm='HS256')", "jwt", "s3cretkey9"),
    ] {
        assert_eq!(given(text, word), Some(expected), "{text}");
    }
    for (text, word) in [
        ("button.connect(\"clicked\", handler, \"label\")", "connect"),
        ("socket.connect(host, port, timeout)", "connect"),
        ("page.login(request, \"accounts/login.html\")", "login"),
        ("auth.login(user, password)", "login"),
        ("login(\"bob\", \"{password}\")", "login"),
        ("cipher.encrypt(\"data\", \"more\")", "encrypt"),
    ] {
        assert_eq!(given(text, word), None, "{text}");
    }
}

#[test]
fn sentences_and_documents_say_a_password_in_many_ways() {
    for (text, expected) in [
        ("the password for bob is hunter2", "hunter2"),
        ("Password (staging): hunter2", "hunter2"),
        ("the password has been reset to Tr0ub4dor", "Tr0ub4dor"),
        ("enter Tr0ub4dor as the password", "Tr0ub4dor"),
        ("bob / Tr0ub4dor (password)", "Tr0ub4dor"),
        ("Password:\nTr0ub4dor\n", "Tr0ub4dor"),
        ("| User | Password |\n|---|---|\n| bob | hunter2 |\n", "hunter2"),
        ("<td>Password</td><td>hunter2</td>", "hunter2"),
        ("echo hunter2 > /run/secrets/db_password", "hunter2"),
        ("cat > secret_file <<EOF\nhunter2\nEOF", "hunter2"),
        ("@Value(\"hunter2\")\nprivate String password;", "hunter2"),
        ("invalid password provided: \"hunter2\"", "hunter2"),
    ] {
        assert_eq!(taken(text), Some(expected), "{text}");
    }
    for text in [
        "the password for the service is required",
        "password for user in users: x1",
        "set the password to something else",
        "use it as the password",
        "| Option | Password |\n| a | b |\n",
        "echo done > token.log && rm secret",
        "@Value(\"${db.password}\") private String password;",
        "<td>Password</td><td></td>",
    ] {
        assert_eq!(taken(text), None, "{text}");
    }
}

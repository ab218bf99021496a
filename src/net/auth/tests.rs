//! Tests of authentication against wrong, stolen, expired and forged credentials.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

fn config(yaml: &str) -> Config {
    diagnostic::from_yaml(yaml).expect("the test's configuration is right")
}

fn authenticator(yaml: &str) -> Authenticator {
    Authenticator::new(&config(yaml)).expect("the test's configuration is right")
}

fn jwt_authenticator(extra: &str) -> Authenticator {
    authenticator(&format!("{{ type: jwt, jwt: {{ secret: {SECRET}{extra} }} }}"))
}

fn problems(yaml: &str) -> Vec<String> {
    let mut problems = Problems::default();
    config(yaml).check("auth", &mut problems);
    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

fn header(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, value.parse().expect("a header"));
    headers
}

async fn authenticate(authenticator: &Authenticator, authorization: &str) -> Result<Principal, u16> {
    match authenticator.authenticate(&header(authorization), None).await {
        Ok(principal) => Ok(principal.expect("the authenticator is not open")),
        Err(problem) => Err(problem.status().as_u16()),
    }
}

fn signed(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("it signs")
}

fn claims() -> Value {
    json!({ "sub": "ada", "exp": now() + 3600 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn who(name: &str, role: Role) -> Result<Principal, u16> {
    Ok(Principal { name: name.into(), role })
}

#[tokio::test]
async fn a_bearer_token_names_its_service_and_nothing_else_comes_in() {
    let authenticator = authenticator("{ type: bearer, tokens: { notebooks: tok-1, shop: tok-2 } }");
    assert_eq!(authenticate(&authenticator, "Bearer tok-2").await, who("shop", Role::Ingest));
    assert_eq!(authenticate(&authenticator, "bearer  tok-1").await, who("notebooks", Role::Ingest));
    for wrong in ["Bearer tok-3", "Bearer ", "Bearer", "tok-1", "Basic tok-1", "Basic dG9rLTE6", "Token tok-1", ""] {
        assert_eq!(authenticate(&authenticator, wrong).await, Err(401), "{wrong}");
    }
    let mut twice = header("Bearer tok-1");
    twice.append(AUTHORIZATION, "Bearer tok-1".parse().expect("a header"));
    assert!(authenticator.authenticate(&twice, None).await.is_err());
    assert!(authenticator.authenticate(&HeaderMap::new(), None).await.is_err());
    let mut key = HeaderMap::new();
    key.insert(API_KEY, "tok-1".parse().expect("a header"));
    assert!(authenticator.authenticate(&key, None).await.is_ok());
}

#[tokio::test]
async fn an_open_gate_asks_nobody() {
    assert_eq!(Authenticator::open().authenticate(&header("Bearer nonsense"), None).await.expect("open"), None);
}

#[tokio::test]
async fn tokens_may_be_a_list_without_names() {
    let authenticator = authenticator("{ type: bearer, tokens: [tok-1, tok-2] }");
    assert_eq!(authenticate(&authenticator, "Bearer tok-2").await, who("token-2", Role::Ingest));
}

#[tokio::test]
async fn users_sign_in_with_passwords_and_a_slow_hash_is_computed_once() {
    let hash = "pbkdf2_sha256$1000$saltsaltsaltsalt$BBs+1+PaslLtBPULUr8/lQicvVuHiEPMz0i8MjLCbzM=";
    let authenticator = authenticator(&format!(
        "{{ type: basic, users: {{ ada: {{ password: 'a:b', role: admin }}, bob: {{ password_hash: {hash} }} }} }}"
    ));
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    assert_eq!(authenticate(&authenticator, &basic("ada:a:b")).await, who("ada", Role::Admin));
    assert_eq!(authenticate(&authenticator, &basic("bob:correct horse")).await, who("bob", Role::User));
    assert!(authenticator.users["bob"].fitted.lock().expect("no panic").is_some());
    assert_eq!(authenticate(&authenticator, &basic("bob:correct horse")).await, who("bob", Role::User));
    for wrong in ["ada:", "ada:a:c", "ada", "bob:wrong horse", "eve:x", ":", ""] {
        assert_eq!(authenticate(&authenticator, &basic(wrong)).await, Err(401), "{wrong}");
    }
    assert_eq!(authenticate(&authenticator, "Basic not-base-64").await, Err(401));
}

#[tokio::test]
async fn whoever_is_wrong_costs_one_slow_hash_whether_the_name_exists_or_not() {
    let hash = "pbkdf2_sha256$1000$saltsaltsaltsalt$BBs+1+PaslLtBPULUr8/lQicvVuHiEPMz0i8MjLCbzM=";
    for bob in ["bob", "aaa"] {
        let authenticator = authenticator(&format!(
            "{{ type: basic, users: {{ ada: {{ password: 'a:b', role: admin }}, {bob}: {{ password_hash: {hash} }} }} }}"
        ));
        for (nth, wrong) in ["ada:x", &format!("{bob}:x"), "eve:x", ":", "eve:correct horse"].into_iter().enumerate() {
            assert_eq!(
                authenticate(&authenticator, &format!("Basic {}", STANDARD.encode(wrong))).await,
                Err(401),
                "{wrong}"
            );
            assert_eq!(authenticator.hashes.load(std::sync::atomic::Ordering::Relaxed), nth + 1, "{wrong}");
        }
    }
    let plain = authenticator("{ type: basic, users: { ada: { password: 'a:b', role: admin } } }");
    assert_eq!(authenticate(&plain, &format!("Basic {}", STANDARD.encode("eve:x"))).await, Err(401));
    assert_eq!(plain.hashes.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_who_knows_the_token_still_comes_in() {
    let authenticator = authenticator("{ type: bearer, tokens: { shop: right } }");
    let peer = Some("192.0.2.1".parse().expect("an address"));
    let mut statuses = Vec::new();
    for _ in 0..200 {
        statuses.push(
            authenticator.authenticate(&header("Bearer wrong"), peer).await.expect_err("wrong").status().as_u16(),
        );
    }
    assert_eq!((statuses[0], statuses[199]), (401, 429));
    assert!(authenticator.authenticate(&header("Bearer right"), peer).await.is_ok());
}

#[tokio::test]
async fn a_minted_token_comes_in() {
    let authenticator = jwt_authenticator("");
    let terms = jwt::Terms::default();
    let token = jwt::mint(SECRET, "ada", Role::Viewer, &terms, now(), now() + 60).expect("the secret is good");
    assert_eq!(authenticate(&authenticator, &format!("Bearer {token}")).await, who("ada", Role::Viewer));
    assert!(jwt::mint("short", "ada", Role::User, &terms, 0, 1).is_err());
    let strict =
        format!("{{ type: jwt, jwt: {{ secret: {SECRET}, audience: [w, x], issuer: me, user_claim: mail }} }}");
    let terms = jwt::Terms::of(&config(&strict).jwt.expect("given"));
    let token = jwt::mint(SECRET, "ada", Role::User, &terms, now(), now() + 60).expect("the secret is good");
    assert_eq!(authenticate(&self::authenticator(&strict), &format!("Bearer {token}")).await, who("ada", Role::User));
    let fractions = json!({ "sub": "ada", "nbf": now() as f64 - 0.5, "exp": now() as f64 + 60.5 });
    assert_eq!(authenticate(&authenticator, &format!("Bearer {}", signed(&fractions))).await, who("ada", Role::User));
}

#[tokio::test]
async fn claims_are_validated_strictly() {
    let authenticator = jwt_authenticator("");
    for (name, value) in [
        ("exp", Value::Null),
        ("exp", json!((now() + 60).to_string())),
        ("exp", json!(now() as f64 - 60.5)),
        ("exp", json!(1e300)),
        ("exp", json!(1_000_000_000_000_000_000_i64)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(-1)),
        ("exp", json!([now() + 60])),
        ("exp", json!(-0.5)),
        ("exp", json!(true)),
        ("nbf", Value::Null),
        ("nbf", json!("0")),
        ("nbf", json!(-1)),
        ("nbf", json!(i64::MIN)),
        ("nbf", json!(-1e300)),
        ("nbf", json!(1e300)),
        ("nbf", json!(now() + 60)),
        ("nbf", json!(i64::MAX)),
        ("sub", json!("")),
        ("sub", json!(["ada"])),
        ("sub", json!("a\nb")),
        ("sub", json!("a".repeat(MAX_NAME_BYTES + 1))),
    ] {
        let token = signed(&with(name, value.clone()));
        assert_eq!(authenticate(&authenticator, &format!("Bearer {token}")).await, Err(401), "{name} {value}");
    }
    // What no JSON library writes: a signature over it does not make it a number.
    for exp in ["1e999", "-1e999", "NaN", "Infinity", "99999999999999999999999999", "\"NaN\"", "1e-400", ""] {
        let parts = [r#"{"alg":"HS256"}"#, &format!(r#"{{"sub":"ada","exp":{exp}}}"#)]
            .map(|p| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(p));
        let message = parts.join(".");
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it signs");
        assert_eq!(authenticate(&authenticator, &format!("Bearer {message}.{signature}")).await, Err(401), "{exp}");
    }
    let mut without = claims();
    without.as_object_mut().expect("an object").remove("exp");
    assert_eq!(authenticate(&authenticator, &format!("Bearer {}", signed(&without))).await, Err(401));
}

#[tokio::test]
async fn clocks_may_differ_by_five_seconds() {
    let jwt = config(&format!("{{ type: jwt, jwt: {{ secret: {SECRET} }} }}")).jwt.expect("given");
    let verifier = jwt::Verifier::new(&jwt, None).unwrap_or_else(|_| panic!("the secret is good"));
    let token = signed(&json!({ "sub": "ada", "nbf": 1000, "exp": 2000 }));
    for (at, fine) in [(994, false), (995, true), (2004, true), (2005, false)] {
        assert_eq!(verifier.verify(&token, at).await.is_ok(), fine, "at {at}");
    }
}

#[tokio::test]
async fn the_user_is_the_first_claim_that_names_one_and_the_role_must_be_spelt_exactly() {
    let authenticator = jwt_authenticator("");
    for (extra, name, role) in [
        (json!({ "user_id": "u", "username": "n" }), "u", Role::User),
        (json!({ "username": "n" }), "n", Role::User),
        (json!({ "user_id": 42 }), "42", Role::User),
        (json!({ "role": "admin" }), "ada", Role::Admin),
        (json!({ "is_admin": true }), "ada", Role::Admin),
        (json!({ "is_admin": "true" }), "ada", Role::User),
        (json!({ "is_admin": 1 }), "ada", Role::User),
        (json!({ "role": "guest" }), "ada", Role::Viewer),
        (json!({ "role": "ingest" }), "ada", Role::Ingest),
        (json!({ "role": "Admin " }), "ada", Role::User),
        (json!({ "role": "ADMIN" }), "ada", Role::User),
        (json!({ "role": ["admin"] }), "ada", Role::User),
        (json!({ "role": "root" }), "ada", Role::User),
    ] {
        let mut claims = claims();
        claims.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        assert_eq!(
            authenticate(&authenticator, &format!("Bearer {}", signed(&claims))).await,
            who(name, role),
            "{extra}"
        );
    }
    let authenticator = jwt_authenticator(", user_claim: email");
    assert_eq!(
        authenticate(&authenticator, &format!("Bearer {}", signed(&with("email", json!("a@b.c"))))).await,
        who("a@b.c", Role::User)
    );
    assert_eq!(authenticate(&authenticator, &format!("Bearer {}", signed(&claims()))).await, Err(401));
}

#[tokio::test]
async fn audience_and_issuer_are_checked_where_they_are_configured() {
    let authenticator = jwt_authenticator(", audience: [weir, logs], issuer: hub");
    for (aud, iss, fine) in [
        (json!("weir"), json!("hub"), true),
        (json!(["other", "logs"]), json!("hub"), true),
        (json!("other"), json!("hub"), false),
        (json!([]), json!("hub"), false),
        (Value::Null, json!("hub"), false),
        (json!("weir"), json!("elsewhere"), false),
        (json!("weir"), Value::Null, false),
    ] {
        let mut claims = claims();
        (claims["aud"], claims["iss"]) = (aud, iss);
        assert_eq!(
            authenticate(&authenticator, &format!("Bearer {}", signed(&claims))).await.is_ok(),
            fine,
            "{claims}"
        );
    }
}

/// A token with any header, signed with HS256 by any key.
fn forged(header: &str, claims: &Value, key: &[u8]) -> String {
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let message = format!("{}.{}", base64.encode(header), base64.encode(claims.to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", base64.encode(signature.as_ref()))
}

#[tokio::test]
async fn unsigned_tokens_and_unknown_algorithms_are_refused() {
    let authenticator = jwt_authenticator("");
    let good = forged(r#"{"alg":"HS256"}"#, &claims(), SECRET.as_bytes());
    assert!(authenticate(&authenticator, &format!("Bearer {good}")).await.is_ok());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"nOnE"}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        "[]",
        "",
    ] {
        let token = forged(header, &claims(), SECRET.as_bytes());
        assert_eq!(authenticate(&authenticator, &format!("Bearer {token}")).await, Err(401), "{header}");
        let unsigned = token.rsplit_once('.').expect("three parts").0;
        assert_eq!(authenticate(&authenticator, &format!("Bearer {unsigned}.")).await, Err(401), "{header}");
        assert_eq!(authenticate(&authenticator, &format!("Bearer {unsigned}")).await, Err(401), "{header}");
    }
    let tampered = good.replace('.', "x.");
    assert_eq!(authenticate(&authenticator, &format!("Bearer {tampered}")).await, Err(401));
    let other = forged(r#"{"alg":"HS256"}"#, &claims(), b"another-secret-another-secret-12");
    assert_eq!(authenticate(&authenticator, &format!("Bearer {other}")).await, Err(401));
}

#[tokio::test]
async fn huge_and_deep_tokens_are_refused() {
    let authenticator = jwt_authenticator("");
    let huge = signed(&with("x", json!("x".repeat(1 << 20))));
    assert_eq!(authenticate(&authenticator, &format!("Bearer {huge}")).await, Err(401));
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = format!(r#"{{"sub":"ada","exp":{},"x":{deep}}}"#, now() + 60);
    let message = format!("{}.{}", base64.encode(r#"{"alg":"HS256"}"#), base64.encode(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let token = format!("{message}.{}", base64.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes()).as_ref()));
    assert!(token.len() < jwt::MAX_TOKEN_BYTES);
    assert_eq!(authenticate(&authenticator, &format!("Bearer {token}")).await, Err(401));
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("      {line}\n")).collect()
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_shared_secret() {
    for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256] {
        let pair = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let (private, public) = (pair.serialize_pem(), pair.public_key_pem());
        let authenticator = authenticator(&format!("type: jwt\njwt:\n    public_key: |\n{}", indented(&public)));
        let rsa = std::ptr::eq(algorithm, &rcgen::PKCS_RSA_SHA256);
        let (name, key) = match rsa {
            true => (Algorithm::RS256, EncodingKey::from_rsa_pem(private.as_bytes()).expect("a key")),
            false => (Algorithm::ES256, EncodingKey::from_ec_pem(private.as_bytes()).expect("a key")),
        };
        let good = encode(&Header::new(name), &claims(), &key).expect("it signs");
        assert_eq!(authenticate(&authenticator, &format!("Bearer {good}")).await, who("ada", Role::User), "{name:?}");
        for confused in [public.as_bytes(), public.trim().as_bytes(), pair.public_key_raw()] {
            let token = forged(r#"{"alg":"HS256"}"#, &claims(), confused);
            assert_eq!(authenticate(&authenticator, &format!("Bearer {token}")).await, Err(401), "{name:?}");
        }
    }
}

#[tokio::test]
async fn a_key_of_a_set_is_found_by_its_id_and_a_removed_one_is_not() {
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let jwk = |pair: &rcgen::KeyPair, kid: &str| {
        let raw = pair.public_key_raw();
        let (x, y) = (base64.encode(&raw[1..33]), base64.encode(&raw[33..]));
        format!("{{ kty: EC, crv: P-256, use: sig, kid: {kid}, x: {x}, y: {y} }}")
    };
    let pairs: Vec<_> = (0..2).map(|_| rcgen::KeyPair::generate().expect("a key")).collect();
    let token = |n: usize, kid: Option<&str>| {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = kid.map(str::to_owned);
        let key = EncodingKey::from_ec_pem(pairs[n].serialize_pem().as_bytes()).expect("a key");
        format!("Bearer {}", encode(&header, &claims(), &key).expect("it signs"))
    };
    let both = authenticator(&format!(
        "{{ type: jwt, jwt: {{ jwks: {{ keys: [{}, {}] }} }} }}",
        jwk(&pairs[0], "a"),
        jwk(&pairs[1], "b")
    ));
    for (n, kid, fine) in [(0, Some("a"), true), (1, Some("b"), true), (0, Some("b"), false), (1, None, true)] {
        assert_eq!(authenticate(&both, &token(n, kid)).await.is_ok(), fine, "{n} {kid:?}");
    }
    let rotated = authenticator(&format!("{{ type: jwt, jwt: {{ jwks: {{ keys: [{}] }} }} }}", jwk(&pairs[1], "b")));
    assert_eq!(authenticate(&rotated, &token(0, Some("a"))).await, Err(401));
    assert!(authenticate(&rotated, &token(1, Some("b"))).await.is_ok());
}

#[test]
fn weak_and_missing_settings_are_found_before_anything_starts() {
    for (yaml, said) in [
        ("{ type: bearer }", "auth: `bearer` needs `tokens`"),
        ("{ type: bearer, tokens: { a: '' } }", "auth.tokens.a: an empty token"),
        ("{ type: bearer, tokens: { a: 'x y' } }", "auth.tokens.a: a token has no spaces"),
        ("{ type: none, tokens: { a: b } }", "auth.tokens: `tokens` is not looked at"),
        ("{ type: basic, users: { ada: {} } }", "auth.users.ada: user `ada` needs either"),
        ("{ type: jwt }", "auth: `jwt` needs `jwt`"),
        ("{ type: jwt, jwt: {} }", "auth.jwt: set exactly one of `secret`"),
        ("{ type: jwt, jwt: { secret: changeme } }", "auth.jwt.secret: the secret has 8 bytes"),
        (
            "{ type: jwt, jwt: { secret: change-me-change-me-change-me-change-me } }",
            "auth.jwt.secret: the secret is easy to guess",
        ),
        (
            "{ type: jwt, jwt: { secret: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa } }",
            "auth.jwt.secret: the secret is easy to guess",
        ),
        ("{ type: jwt, jwt: { public_key: /etc/key.pem } }", "auth.jwt.public_key: expected a key in PEM"),
        ("{ type: jwt, jwt: { jwks: { keys: [] } } }", "auth.jwt.jwks: the set has no key"),
        (
            "{ type: jwt, jwt: { secret: 0123456789abcdefghijklmnopqrstuv, algorithms: [RS256] } }",
            "auth.jwt.algorithms: none of these works with the key",
        ),
        (
            "{ type: jwt, jwt: { secret: 0123456789abcdefghijklmnopqrstuv, algorithms: [none] } }",
            "auth.jwt.algorithms: unknown algorithm `none`",
        ),
    ] {
        let found = problems(yaml);
        assert!(found.len() == 1 && found[0].starts_with(said), "{yaml}: {found:?}");
    }
    assert_eq!(problems(&format!("{{ type: jwt, jwt: {{ secret: {SECRET}, algorithms: [HS256, HS512] }} }}")), [""; 0]);
    assert_eq!(problems("{ type: jwt, jwt: { jwks: /run/keys.json } }"), [""; 0]);
}

#[tokio::test]
async fn a_proof_holds_as_long_as_the_credentials_that_it_came_from() {
    let (mut other, key) = (claims(), [7; 32]);
    other["exp"] = (now() - 60).into();
    let set = |id: &str, secret: &str| {
        let secret = URL_SAFE_NO_PAD.encode(secret);
        format!("{{ type: jwt, jwt: {{ jwks: {{ keys: [{{ kty: oct, kid: {id}, k: {secret} }}] }} }} }}")
    };
    let hash = "pbkdf2_sha256$1000$saltsaltsaltsalt$BBs+1+PaslLtBPULUr8/lQicvVuHiEPMz0i8MjLCbzM=";
    let user = |more: &str| format!("{{ type: basic, users: {{ ada: {{ {more} }} }} }}");
    let jwt = |more: &str| format!("{{ type: jwt, jwt: {{ secret: {SECRET}{more} }} }}");
    let bearer = format!("Bearer {}", signed(&claims()));
    let basic = format!("Basic {}", STANDARD.encode("ada:correct horse"));
    let tokens = "{ type: bearer, tokens: { shop: tok-1 } }".to_owned();
    let cases = [
        (tokens.clone(), "Bearer tok-1", tokens.clone(), true),
        (tokens, "Bearer tok-1", "{ type: bearer, tokens: { shop: tok-2 } }".to_owned(), false),
        (jwt(""), &bearer, jwt(""), true),
        (jwt(""), &bearer, set("one", SECRET), true),
        (set("one", SECRET), &bearer, set("two", SECRET), true),
        (set("one", SECRET), &bearer, set("one", "another 0123456789abcdefghijklmn"), false),
        (jwt(""), &bearer, jwt("x"), false),
        (jwt(""), &bearer, jwt(", algorithms: [HS512]"), false),
        (jwt(""), &bearer, jwt(", audience: weir"), false),
        (jwt(""), &bearer, jwt(", user_claim: mail"), false),
        (jwt(""), &bearer, user("password: correct horse"), false),
        (user("password: correct horse"), &basic, user("password: correct horse, role: user"), true),
        (user("password: correct horse"), &basic, user("password: another"), false),
        (user("password: correct horse"), &basic, jwt(""), false),
        (user(&format!("password_hash: {hash}")), &basic, user(&format!("password_hash: {hash}")), true),
        (
            user(&format!("password_hash: {hash}")),
            &basic,
            user(&format!("password_hash: {}", hash.replace("BBs", "BBt"))),
            false,
        ),
    ];
    for (before, shown, after, holds) in cases {
        let earlier = authenticator(&before).with_proof_key(key);
        let (who, proof) = earlier.prove(&header(shown), None).await.unwrap_or_else(|_| panic!("{before}"));
        let written = serde_json::to_string(&proof).expect("it can be written");
        assert!(!written.contains(SECRET) && !written.contains("horse"), "{written}");
        let proof: Proof = serde_json::from_str(&written).expect("it can be read");
        let again = authenticator(&after).with_proof_key(key).prove_again(&proof).await;
        assert_eq!(again, holds.then_some(who), "{before}, then {after}");
        assert_eq!(authenticator(&before).with_proof_key([8; 32]).prove_again(&proof).await, None, "another key");
        if let Proof::Jwt { key, algorithm, .. } = proof {
            let expired = Proof::Jwt { key, algorithm, claims: other.as_object().expect("claims").clone() };
            assert_eq!(earlier.prove_again(&expired).await, None, "it has ended");
        }
    }
}

#[tokio::test]
async fn a_role_is_the_one_that_a_user_has_now() {
    let of = |role: &str| {
        authenticator(&format!("{{ type: basic, users: {{ ada: {{ password: 'a:b', role: {role} }} }} }}"))
            .with_proof_key([7; 32])
    };
    let shown = header(&format!("Basic {}", STANDARD.encode("ada:a:b")));
    let (_, proof) = of("admin").prove(&shown, None).await.unwrap_or_else(|_| panic!("she is known"));
    assert_eq!(of("viewer").prove_again(&proof).await, who("ada", Role::Viewer).ok());
}

addEventListener('error',e=>{document.documentElement.dataset.error=e.message});
addEventListener('load',()=>{
  const root=document.documentElement,button=document.getElementById('theme');
  const dark=()=>root.style.colorScheme?root.style.colorScheme==='dark':matchMedia('(prefers-color-scheme: dark)').matches;
  const name=()=>{button.textContent=dark()?'Light':'Dark'};
  button.hidden=false;name();
  button.addEventListener('click',()=>{root.style.colorScheme=dark()?'light':'dark';name()});
  // What is folded away is printed too.
  let opened=[];
  addEventListener('beforeprint',()=>{opened=[...document.querySelectorAll('details:not([open])')];opened.forEach(d=>{d.open=true})});
  addEventListener('afterprint',()=>{opened.forEach(d=>{d.open=false});opened=[]});
  const links=new Map([...document.querySelectorAll('.bar nav a')].map(a=>[a.hash.slice(1),a]));
  const seen=new IntersectionObserver(entries=>entries.forEach(entry=>{
    if(!entry.isIntersecting)return;
    links.forEach(a=>a.removeAttribute('aria-current'));
    const link=links.get(entry.target.id);
    if(link)link.setAttribute('aria-current','true');
  }),{rootMargin:'-15% 0px -75% 0px'});
  document.querySelectorAll('main section').forEach(section=>seen.observe(section));
  root.dataset.ready='1';
});
